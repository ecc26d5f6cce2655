"""I/O: the hook, the bus and installed plugins. Decides nothing."""
