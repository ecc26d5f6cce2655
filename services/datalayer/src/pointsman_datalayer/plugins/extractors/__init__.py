"""What the data layer makes of what it has read."""
