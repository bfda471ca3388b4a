"""Simulated providers: one process that plays OpenAI-compatible upstreams, good and bad, by seed."""
