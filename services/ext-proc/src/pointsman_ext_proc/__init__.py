"""The edge: speaks Envoy's external processing protocol and calls the layers in sequence."""
