"""Which candidates are chosen from their scores."""
