"""The gRPC edge: thin servicers, conversion, one table of errors and one server."""
