"""One file an API. A parser reads only what the layers need to know; see registry.py."""
