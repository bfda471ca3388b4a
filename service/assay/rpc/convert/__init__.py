"""Between the wire and the engine: requests in, plans and catalog values out."""
