"""Reports of how attempts ended: checks, counting, and the short-term health of endpoints."""
