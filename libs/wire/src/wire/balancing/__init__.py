"""Which addresses a channel has and which of them takes the next call, without I/O.

Time is the caller's, in seconds of a clock that does not go back; chance is an injected `Random`.
"""
