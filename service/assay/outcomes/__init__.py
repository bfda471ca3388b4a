"""Reports of attempts: checks, counting, and the health of the moment."""
