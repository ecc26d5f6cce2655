"""The shell around `wire.http2` and `wire.grpc`: sockets, timers, tasks and futures of asyncio.

Runs on any loop; uvloop makes it cheaper.
"""
