"""Parameters of the first two stages: images, and what they are encoded by."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from lct_pipeline.parameters.types import (
    Count,
    Group,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Share,
    Text,
)


class Splits(Group):
    """Shares of the images; the rest is the training split."""

    validation: Share
    test: Share

    @model_validator(mode="after")
    def _leave_training_images(self) -> Splits:
        if self.validation + self.test >= 1:
            raise ValueError(
                "validation and test together must leave a share for training"
            )
        return self


class Ingestion(Group):
    """Which images, and how they become squares of one size."""

    source: str = Field(min_length=1)
    labels: Text
    image_column: Text | None
    label_column: Text
    hub_split: Text
    image_size: int = Field(ge=8, multiple_of=8)
    splits: Splits
    duplicates: Literal["keep", "drop"]
    max_problem_share: Share
    min_side: Positive
    max_pixels: int = Field(gt=0, le=178_956_970)  # where Pillow itself refuses
    max_mib: Positive
    shard_mib: Positive


class TrainedAutoencoder(Group):
    """The small AutoencoderKL that is fitted when no autoencoder is named."""

    block_channels: tuple[Positive, ...] = Field(min_length=1)
    latent_channels: Positive
    num_steps: Positive
    batch_size: Positive
    learning_rate: PositiveFloat
    kl_weight: NonNegativeFloat

    @model_validator(mode="after")
    def _groups_divide_channels(self) -> TrainedAutoencoder:
        groups = max(1, min(self.block_channels) // 2)
        if any(channels % groups for channels in self.block_channels):
            raise ValueError(f"block_channels must all be multiples of {groups}")
        return self


class Encoding(Group):
    """The autoencoder and the latents."""

    autoencoder: str | None
    trained: TrainedAutoencoder
    horizontal_flips: bool
    precision: Literal["auto", "float32", "bfloat16"]
    stored_as: Literal["float32", "float16"]
    batch_size: Count
    warn_below_psnr: NonNegativeFloat
    lpips_path: Text | None
    seed: Count
