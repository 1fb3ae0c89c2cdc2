"""Stand-ins of gateways that cannot run here: they answer the public API, and pass no traffic. So
what is tried on them is how they are written to, and never that anything is contained."""
