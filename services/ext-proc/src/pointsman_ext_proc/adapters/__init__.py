"""What carries the edge's bytes: Envoy's streams, the layers, the bus."""
