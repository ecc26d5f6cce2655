"""Everything that a configuration can name."""
