"""Importers: one module per file format, from bytes to values and rejections; no I/O, SQL or clock."""
