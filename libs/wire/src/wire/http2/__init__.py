"""HTTP/2 (RFC 9113) and HPACK (RFC 7541) without I/O: bytes in, events and bytes out.

Read in this order: `frames`, `stream` (the state table), `connection`, `sender`, then the two roles
`server_connection` and `client_connection`. Nothing here knows of gRPC, sockets or clocks.
"""
