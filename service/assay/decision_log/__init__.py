"""The decision log: records, shipping into SQL, filters, replay, verification, export and retention."""
