"""Counts of what endpoints did, folded: time decay, caps, strata, ignore votes, statistics."""
