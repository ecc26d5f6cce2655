"""Rules: what product teams may say about a request before it is routed."""
