"""The contracts of Pointsman, and what every service needs to keep them."""

__version__ = "0.1.0"
CONTRACT_VERSION = "v1"
