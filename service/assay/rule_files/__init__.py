"""Rule files: YAML text to rule sets, bindings and test cases; every fault has its place."""
