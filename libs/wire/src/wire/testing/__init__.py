"""For tests of HTTP/2 and gRPC: peers that say exactly what they are told to."""
