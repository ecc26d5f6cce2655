"""The flow controller: when a request may go, or that it may not."""
