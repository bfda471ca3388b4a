"""A running service: composition root, settings, decider, snapshot follower and metrics."""
