"""The router's I/O."""
