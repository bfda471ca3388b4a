"""Counts of what endpoints did, turned into facts: time decay, caps, strata, ignore rates, statistics."""
