"""The forwarding layer: an OpenAI-compatible front that runs decisions and reports what came of them."""
