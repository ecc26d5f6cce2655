"""What tests use in place of time, the bus and real pools."""
