"""The decision log as auditors use it: filters, derived columns, replay, verification, export."""
