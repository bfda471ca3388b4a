"""The one process that closes hours: it judges with memory, moves endpoints in and out of pools, and publishes."""
