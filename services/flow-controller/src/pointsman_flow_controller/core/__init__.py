"""Decisions: pure, with time as an argument."""
