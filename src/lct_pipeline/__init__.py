"""Latent consistency training (sLCT) and linear combination of saved checkpoints (LCSC)."""

import os

from lct_pipeline.waiting_threads import set_spinning

__version__ = "0.1.0"

set_spinning(os.environ)  # before torch is imported
