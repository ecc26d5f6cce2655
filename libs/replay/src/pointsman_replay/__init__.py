"""Which policy places requests best? Traces, engines and pickers in virtual time."""
