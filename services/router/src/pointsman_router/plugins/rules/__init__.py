"""The types of rules, a file each; catalogue.py lists them."""
