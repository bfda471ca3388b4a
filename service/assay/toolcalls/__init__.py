"""Was a tool call valid? A library that gateways import."""
