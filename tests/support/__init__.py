"""What the suites over running processes share."""
