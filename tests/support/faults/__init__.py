"""The fault harness: faults at every call, a deterministic simulation, and one checker for all."""
