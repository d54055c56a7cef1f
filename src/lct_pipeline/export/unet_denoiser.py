"""The denoiser of an exported model whose network is of kind ``unet``."""

from lct_pipeline.export.latent_denoiser import LatentDenoiser
from lct_pipeline.models.unet import UNetNetwork


class UNetDenoiser(LatentDenoiser):
    """A denoiser with this network."""

    network_class = UNetNetwork
