"""The forwarder: an OpenAI-compatible HTTP front that runs decisions and reports their outcomes."""
