"""Networks whose features are compared, one module for each kind."""
