"""Which profiles run, and what follows from them."""
