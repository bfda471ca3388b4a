"""Simulated providers: one process that plays many OpenAI-compatible upstreams, good and bad, by seeded chance."""
