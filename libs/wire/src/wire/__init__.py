"""gRPC between processes on asyncio, as bytes."""
