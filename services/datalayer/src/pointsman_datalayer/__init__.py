"""The datalayer: knows the pools and their endpoints."""
