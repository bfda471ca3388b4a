"""OpenRouter's JSON spellings as messages of the contract."""
