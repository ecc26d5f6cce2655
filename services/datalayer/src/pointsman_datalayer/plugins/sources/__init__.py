"""Where the data layer reads from."""
