"""Rule files: YAML text in, rule sets, bindings and test cases out; every fault with its place."""
