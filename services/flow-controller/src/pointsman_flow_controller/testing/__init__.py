"""What tests use in place of a running service."""
