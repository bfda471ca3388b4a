"""Judging and publishing, under a lease that one process at a time holds."""
