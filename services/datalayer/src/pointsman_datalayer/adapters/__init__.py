"""Bytes and timers; decides nothing."""
