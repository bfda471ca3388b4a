"""Importers: one module per file format.

They turn bytes into values and rejections, without I/O, SQL or the clock.
"""
