"""From a request and a snapshot to a plan, and its explanation."""
