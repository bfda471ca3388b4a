"""Imports: each is one transaction, can be repeated without duplicates, and reports what it did."""
