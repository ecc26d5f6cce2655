"""Decisions and state, without I/O: values, times and randomness come from outside."""
