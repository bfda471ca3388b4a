"""Builders that tests share, one module for each thing; see `tests/README.md`."""
