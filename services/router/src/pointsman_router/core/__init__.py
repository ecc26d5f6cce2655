"""Decisions of the router: pure, without I/O and without a clock."""
