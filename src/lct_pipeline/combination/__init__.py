"""Linear combination of saved checkpoints (LCSC): window, weights, search."""
