"""Append-only files on the local disk that hold records until they are shipped."""
