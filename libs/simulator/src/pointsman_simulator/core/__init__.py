"""The engine as a pure model: values and times in, events out. No clock, no sockets."""
