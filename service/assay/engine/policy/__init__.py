"""Rule sets, inheritance, bindings and the fact schema, compiled to a policy."""
