"""The router: what a request is, and what it becomes."""
