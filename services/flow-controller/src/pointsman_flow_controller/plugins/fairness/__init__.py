"""Which flow of a priority band is next."""
