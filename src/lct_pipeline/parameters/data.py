"""Parameters of the first two stages: images, and what they are encoded by."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from lct_pipeline.parameters.types import FilePath, Group, Outside, Share, Text


class Splits(Group):
    """Shares of the images, drawn by their content; the rest is for training."""

    validation: Share
    """Share by which is selected."""
    test: Share
    """Share on which final values are measured, and nothing else."""

    def faults(self) -> Iterator[str]:
        """Training needs images too."""
        if self.validation + self.test >= 1:
            yield "validation and test together must leave a share for training"


class Ingestion(Group):
    """Which images, and how they become squares of one size."""

    source: Annotated[Text, Outside(("digits",))]
    """The images: digits (built in); a folder, .zip, .tar, .npy, .npz or .parquet; a folder of .tar
    (WebDataset) or .parquet files; hf://datasets/<id>; a saved Hugging Face data set."""
    labels: Annotated[Text, Outside(("folders", "column", "none"))]
    """Class labels. folders: those of a dataset.json (EDM), or the folder (or .cls of a WebDataset)
    is the label; column: label_column of a table or array file; none; or a .csv of image names and
    labels."""
    image_column: Text | None
    """Column with the images, or their names, of a table, array file or .csv; of files, the ending
    of the images where samples have several pictures (jpg; input.jpg); null: the only one that can
    be meant."""
    label_column: Text
    """Column with the labels, of a table or array file with labels=column, or of the .csv."""
    hub_split: Text
    """Split to take of a Hugging Face data set."""
    image_size: int = Field(ge=8, multiple_of=8)
    """Side in pixels after centre crop and resize."""
    splits: Splits
    duplicates: Literal["keep", "drop"]
    """Exact copies are always listed (image_manifest); drop: only the first one is used."""
    max_problem_share: Share
    """More files than this share that cannot be used stop the run."""
    min_side: PositiveInt
    """Least side in pixels; smaller images are not used."""
    max_pixels: int = Field(gt=0, le=178_956_970)  # where Pillow itself refuses
    """Most pixels of an image; larger ones are refused before they are decoded (decompression
    bombs)."""
    max_mib: PositiveInt
    """Largest file, MiB; larger ones are refused before they are read."""
    shard_mib: PositiveInt
    """MiB of pixels in a shard: 16 are 5,461 images at 32 pixels, 85 at 256."""

    def faults(self) -> Iterator[str]:
        """A column of labels is named where one is read."""
        if self.label_column != "label" and self.labels in ("folders", "none"):
            yield (
                f"label_column={self.label_column!r} has no effect with labels={self.labels}: give "
                "labels=column, or a .csv"
            )


class TrainedAutoencoder(Group):
    """The small autoencoder that is trained here when no autoencoder is named."""

    kind: Literal["AutoencoderDC", "AutoencoderKL"]
    """Class of diffusers. AutoencoderDC works at half the side and below; it decodes in a quarter
    of the time. AutoencoderKL, that of Stable Diffusion, learns the noise of each latent."""
    block_channels: tuple[PositiveInt, ...] = Field(min_length=1)
    """Channels of each level. Each but the last halves the side: four make 8x, as in Stable
    Diffusion. At the first of several, an AutoencoderDC has no layers."""
    latent_channels: PositiveInt
    """Channels of the latents. The digits lose nothing with 4; colour photographs want 4 and more
    steps."""
    num_steps: PositiveInt
    """Steps of the optimiser; 450 of the small AutoencoderDC take about 15 s on two cores."""
    batch_size: PositiveInt
    """Images a step."""
    learning_rate: PositiveFloat
    """Peak of a one-cycle schedule."""
    kl_weight: NonNegativeFloat
    """Weight of the KL divergence. With 1e-3 latents stay near unit variance; 1e-6 (Stable
    Diffusion) leaves outliers."""

    def faults(self) -> Iterator[str]:
        """Group norms divide channels, shortcuts of an AutoencoderDC those of the next level."""
        channels = self.block_channels
        groups = max(1, min(channels) // 2)
        if self.kind == "AutoencoderKL":
            if any(number % groups for number in channels):
                yield f"block_channels must all be multiples of {groups}"
        elif channels[-1] % self.latent_channels or any(
            finer * 4 % coarser or coarser % 4 for finer, coarser in pairwise(channels)
        ):
            yield (
                "block_channels of an AutoencoderDC must be multiples of 4, each must divide four "
                "times the one before, and latent_channels the last"
            )


class Encoding(Group):
    """The autoencoder and the latents."""

    autoencoder: Annotated[Text, Outside(("pixels",))] | None
    """Folder or hub id of a diffusers AutoencoderKL, AutoencoderTiny or AutoencoderDC; null: train
    the small one below; pixels: none, the model works on the pixels."""
    horizontal_flips: bool
    """Store each image's mirror image too, encoded: twice the training latents."""
    trained: TrainedAutoencoder
    warn_below_psnr: NonNegativeFloat
    """PSNR on the validation split, dB, below which there is a warning; below 24, samples are
    visibly blurred."""
    lpips_path: FilePath | None
    """File alexnet-owt-7be5be79.pth, for LPIPS; null: torch hub's folder. LPIPS is left out where
    there is none."""
    precision: Literal["auto", "float32", "bfloat16"]
    """Precision of the autoencoder; auto: bfloat16 on GPUs that have it, else float32."""
    stored_as: Literal["float32", "float16"]
    """Precision of the stored means and standard deviations of latents; float16 halves them."""
    batch_size: NonNegativeInt
    """Images at a time; 0: 512 at most, 4 million pixels on a GPU, 131,072 on a CPU."""
    seed: NonNegativeInt
    """Seed of the training of the autoencoder: weights, order of images, noise."""
