"""Append-only files that hold what has been answered until it is shipped: written before the answer, read after it."""
