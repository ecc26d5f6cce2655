"""Input and output: calls, timers and the bus. Nothing is decided here."""
