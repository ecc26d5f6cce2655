"""Decisions of the edge: pure, without I/O, clocks or tasks."""
