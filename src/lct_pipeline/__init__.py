"""Latent consistency training (sLCT) and linear combination of saved checkpoints (LCSC)."""

__version__ = "0.1.0"
