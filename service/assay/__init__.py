"""Assay decides which provider endpoints may serve an LLM request, and in what order."""
