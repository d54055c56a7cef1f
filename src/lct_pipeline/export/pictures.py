"""Pictures from an exported folder: a file for each image, or a grid of them."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import torch
from PIL import Image
from torch import Tensor

from lct_pipeline.core.randomness import derived_generator
from lct_pipeline.datasets.files import atomic_path
from lct_pipeline.datasets.pictures import tile
from lct_pipeline.errors import DataError, ParameterError
from lct_pipeline.models.device import choose_device
from lct_pipeline.progress import track


def write_pictures(options: argparse.Namespace, most: int) -> str:
    """Generate batch by batch and write; return one line about it.

    No more images are held than one batch and the grid's, which has so many at most.
    """
    began = time.perf_counter()
    pipeline = load_pipeline(options.model, options.device)
    loaded = time.perf_counter()
    first: list[Tensor] = []
    num_batches = -(-options.num_images // options.batch_size)
    batches = image_batches(pipeline, options)
    for start, images in track(batches, "sample", "batch", total=num_batches):
        if options.individual is not None:
            _write_individual(images, options.individual, start)
        if options.out is not None and start < most:
            first.append(images[: most - start])
    made = time.perf_counter()
    if options.out is not None:
        _write_grid(first, options.out)
    places = [str(p) for p in (options.out, options.individual) if p is not None]
    shown = min(options.num_images, most)
    is_cut = options.out is not None and shown < options.num_images
    return (
        f"{options.num_images} images in {made - loaded:.1f} s (loading took "
        f"{loaded - began:.1f} s): {' and '.join(places)}"
        + (f" ({options.out.name} has the first {shown})" if is_cut else "")
    )


def load_pipeline(folder: Path, device: str) -> Any:
    """Return the pipeline of an exported folder, on a device.

    Raises:
        DataError: The folder is damaged.
        ParameterError: The device is not there.
    """
    try:
        place = choose_device(device)
    except ParameterError as error:
        message = str(error).replace("runtime.device", "--device")
        raise ParameterError(message) from None
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    name = str(folder.resolve())
    try:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(
            name, custom_pipeline=name, trust_remote_code=True
        )
    except Exception as error:  # of a damaged folder: any, from code to weights
        raise DataError(
            f"--model={folder} cannot be loaded ({str(error).strip().splitlines()[0]}). Export it "
            "again: `kedro run --pipeline=export`."
        ) from error
    return pipeline.to(place)


def image_batches(
    pipeline: Any, options: argparse.Namespace
) -> Iterator[tuple[int, Tensor]]:
    """Yield the number of the first image of each batch, and images ``(B, 3, H, W)``, uint8.

    The noise of an image follows from the seed and its number, whatever the batch size.
    """
    for start in range(0, options.num_images, options.batch_size):
        end = min(start + options.batch_size, options.num_images)
        noise = [
            derived_generator(options.seed, "sample", n) for n in range(start, end)
        ]
        made = pipeline(
            end - start,
            num_inference_steps=options.steps,
            class_labels=options.label,
            guidance_scale=options.guidance,
            generator=noise,
            output_type="uint8",
        )
        yield start, made.images.cpu()


def _write_individual(images: Tensor, folder: Path, start: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images.permute(0, 2, 3, 1).numpy(), start):
        Image.fromarray(image).save(folder / f"{number:06d}.png")


def _write_grid(batches: list[Tensor], path: Path) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray(tile(torch.cat(batches))).save(temporary, format="png")
