"""The engine on grpcio's asyncio API: the reference, and the way back from the wire engine."""
