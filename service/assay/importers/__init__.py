"""Importers: one module per outside format, from bytes to engine values and refusals; no file, SQL or clock."""
