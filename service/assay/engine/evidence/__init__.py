"""Counts of what endpoints did, folded: time decay, limits on tenants, rates, votes, statistics."""
