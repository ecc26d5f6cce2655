"""Processes, ports, probes and the terminal."""
