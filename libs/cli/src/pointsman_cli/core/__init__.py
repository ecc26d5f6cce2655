"""What the command decides: plans, configurations, judgements. No processes, sockets or clocks."""
