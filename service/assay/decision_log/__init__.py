"""The decision log: records, shipping, filters, replay, verification, export, retention."""
