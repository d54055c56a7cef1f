"""Pictures from an exported folder: a file for each image, or a grid of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import diffusers
import torch
from PIL import Image
from torch import Tensor

from lct_pipeline.commands import command
from lct_pipeline.core.randomness import derived_generator
from lct_pipeline.datasets.files import atomic_path
from lct_pipeline.datasets.pictures import tile
from lct_pipeline.errors import DataError, ParameterError
from lct_pipeline.given_files import check_folder, refuse_replaceable
from lct_pipeline.models.device import choose_device
from lct_pipeline.progress import track

MAX_GRID = 256  # images in one picture


def load_pipeline(folder: Path, device: str) -> Any:
    """Return the pipeline of an exported folder, on a device.

    Raises:
        DataError: The folder is damaged, or has code that other users could replace.
        ParameterError: The device is not there.
    """
    try:
        place = choose_device(device)
    except ParameterError as error:
        message = str(error).replace("runtime.device", "--device")
        raise ParameterError(message) from None
    refuse_replaceable(folder)
    check_folder(folder)
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
            f"again: {command('export')}."
        ) from error
    return pipeline.to(place)


def write_pictures(
    pipeline: Any,
    out: Path | None,
    individual: Path | None,
    *,
    num_images: int,
    batch_size: int,
    seed: int,
    **arguments: Any,
) -> str:
    """Generate batch by batch and write; return one line about it.

    No more images are held than one batch and the grid's, which has 256 at most. The noise of an
    image follows from the seed and its number, whatever the batch size.

    Args:
        pipeline: See :func:`load_pipeline`.
        out: File of a grid; None for none.
        individual: Folder of a file for each image; None for none.
        num_images: How many.
        batch_size: Images at a time.
        seed: Of the noise.
        arguments: Further arguments of the pipeline.
    """
    began = time.perf_counter()
    grid: list[Tensor] = []
    for start in track(range(0, num_images, batch_size), "sample", "batch"):
        numbers = range(start, min(start + batch_size, num_images))
        noise = [derived_generator(seed, "sample", number) for number in numbers]
        made = pipeline(generator=noise, output_type="uint8", **arguments)
        images = made.images.cpu()
        if individual is not None:
            _write_individual(images, individual, start)
        if out is not None and start < MAX_GRID:
            grid.append(images[: MAX_GRID - start])
    seconds = time.perf_counter() - began
    if out is not None:
        with atomic_path(out) as temporary:
            Image.fromarray(tile(torch.cat(grid))).save(temporary, format="png")
    places = " and ".join(str(place) for place in (out, individual) if place)
    is_cut = out is not None and num_images > MAX_GRID
    first = f" ({out} has the first {MAX_GRID})" if is_cut else ""
    return f"{num_images} images in {seconds:.1f} s: {places}{first}"


def _write_individual(images: Tensor, folder: Path, start: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images.permute(0, 2, 3, 1).numpy(), start):
        Image.fromarray(image).save(folder / f"{number:06d}.png")
