"""Which request of a flow is next."""
