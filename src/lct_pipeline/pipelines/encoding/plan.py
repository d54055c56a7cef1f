"""What is left to encode: after which shards, and in which precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lct_pipeline.data_parameters import Encoding
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.pipelines.encoding.worker import MIRRORED

if TYPE_CHECKING:
    import torch

    from lct_pipeline.models.autoencoder import Precision


@dataclass(frozen=True)
class EncodingPlan:
    """Precision, fingerprint of the latents, and the shards that are left."""

    precision: Precision
    fingerprint: str
    numbers: range


def plan_encoding(
    images: ShardStore,
    autoencoder_digest: str,
    previous_latents: ShardStore,
    parameters: Encoding,
    device: torch.device,
) -> EncodingPlan:
    """Return what is left after the latents that are already there.

    ``precision: auto`` goes on in the precision of those, so that latents of a GPU stay of use on a
    machine without one.
    """
    num_shards = len(images.shards)
    plans = []
    for precision in _precisions(parameters, device):
        fingerprint = "".join(
            [
                str(images.fingerprint),
                MIRRORED if parameters.horizontal_flips else "",
                "_bfloat16" if precision == "bfloat16" else "",
                "_float16" if parameters.stored_as == "float16" else "",
                f"-{autoencoder_digest}",
            ]
        )
        finished = min(previous_latents.num_finished_shards(fingerprint), num_shards)
        plans.append(EncodingPlan(precision, fingerprint, range(finished, num_shards)))
    return min(plans, key=lambda plan: len(plan.numbers))  # the first of equal ones


def _precisions(parameters: Encoding, device: torch.device) -> tuple[Precision, ...]:
    """Return what the latents may be computed in; new ones are in the first."""
    from lct_pipeline.models.autoencoder import automatic_precision

    if parameters.precision != "auto":
        return (parameters.precision,)
    if automatic_precision(device) == "float32":
        return "float32", "bfloat16"
    return "bfloat16", "float32"
