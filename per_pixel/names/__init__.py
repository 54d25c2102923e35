"""Tables of published parameter names, one file a host."""
