"""The denoiser of an exported model whose network is of kind ``dit``."""

from lct_pipeline.export.latent_denoiser import LatentDenoiser
from lct_pipeline.models.dit import DiTNetwork


class DiTDenoiser(LatentDenoiser):
    """A denoiser with this network."""

    network_class = DiTNetwork
