"""The replay itself: values and seeds in, measures out. No clock, no files."""
