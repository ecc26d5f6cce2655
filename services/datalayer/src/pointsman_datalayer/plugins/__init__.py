"""Sources and extractors that a configuration may name."""
