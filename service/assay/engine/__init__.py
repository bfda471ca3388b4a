"""The pure part of Assay: values in, values out; no clock, no files, no sockets, no randomness."""
