"""The denoiser of an exported model whose network is of kind ``mlp``."""

from lct_pipeline.export.latent_denoiser import LatentDenoiser
from lct_pipeline.models.mlp import MLPNetwork


class MLPDenoiser(LatentDenoiser):
    """A denoiser with this network."""

    network_class = MLPNetwork
