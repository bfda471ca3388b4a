"""Judging endpoints for pools, with and without memory; reports and scorecards."""
