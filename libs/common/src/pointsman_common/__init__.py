"""The contracts of Pointsman, and what every service needs to keep them."""
