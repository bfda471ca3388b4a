"""The gRPC edge: servicers of a few lines (convert, call, convert), one table of errors, one server."""
