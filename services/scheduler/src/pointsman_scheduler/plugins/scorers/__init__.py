"""How good each candidate is, from 0 to 1."""
