"""The scheduler: where a request goes."""
