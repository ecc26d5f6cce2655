"""The ways to pick an endpoint that need no service, to compare the services with."""
