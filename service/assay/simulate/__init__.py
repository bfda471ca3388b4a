"""Simulated providers: one process with many OpenAI-compatible providers, good and bad, by seed."""
