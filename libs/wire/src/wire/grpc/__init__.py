"""gRPC over HTTP/2 without I/O: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md"""
