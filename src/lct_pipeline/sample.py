"""``python -m lct_pipeline.sample``: pictures from an exported model.

.. code-block:: bash

    python -m lct_pipeline.sample --model data/06_models/<run>/export --num-images 64 --out grid.png
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lct_pipeline.errors import DataError, ParameterError, UserError

if TYPE_CHECKING:
    from torch import Tensor

MAX_GRID = 256  # images in one picture
INDEX = "model_index.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Generate images and write them, or say in one message why not."""
    options = _parser().parse_args(arguments)
    try:
        _check(options)
        _write(options)
    except (UserError, ValueError) as error:  # those of the pipeline are for users too
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lct_pipeline.sample",
        description="Generate images with a model that `kedro run --pipeline=export` wrote. "
        "Its folder contains Python code, which is run: use folders that you trust.",
    )
    add = parser.add_argument
    add(
        "--model",
        type=Path,
        required=True,
        help="the exported folder, or that of a run",
    )
    add("--num-images", type=int, default=64, metavar="N", help="default: 64")
    add(
        "--steps",
        type=int,
        help="network evaluations; default: that of the model, often 1",
    )
    add("--seed", type=int, default=0, help="of the noise; default: 0")
    add(
        "--out",
        type=Path,
        metavar="PNG",
        help=f"one picture of all images, {MAX_GRID} at most; default: grid.png",
    )
    add(
        "--individual",
        type=Path,
        metavar="FOLDER",
        help="write each image to a file here, and no grid but where --out is given",
    )
    add(
        "--label",
        help="class of all images, by name or number; default: as in training",
    )
    add("--guidance", type=float, metavar="W", help="classifier-free guidance; 1: none")
    add(
        "--batch-size", type=int, default=64, metavar="B", help="at a time; default: 64"
    )
    add("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    return parser


def _check(options: argparse.Namespace) -> None:
    """Refuse what cannot work, before anything heavy is loaded."""
    for name in ("num_images", "batch_size", "steps"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ParameterError(f"--{name.replace('_', '-')}={value}: give 1 or more.")
    if options.out is None and options.individual is None:
        options.out = Path("grid.png")
    if options.out is not None and (
        options.out.suffix != ".png" or options.out.is_dir()
    ):
        raise ParameterError(f"--out={options.out}: give a file name ending in .png.")
    folder = options.individual
    if folder is not None and folder.exists():
        if not folder.is_dir() or any(folder.iterdir()):
            raise ParameterError(f"--individual={folder}: give a new or empty folder.")
    options.model = exported_folder(options.model)


def exported_folder(path: Path) -> Path:
    """Return the folder that diffusers loads: the given one, or that in a run's folder.

    Raises:
        DataError: There is none.
    """
    for folder in (path, path / "export"):
        if (folder / INDEX).is_file():
            return folder
    if (path / "checkpoints").is_dir():
        raise DataError(
            f"--model={path}: this run was not exported yet. Run `kedro run --pipeline=export "
            f"--params=run_id={path.resolve().name}` first."
        )
    raise DataError(
        f"--model={path}: no model_index.json there. Give the folder that "
        "`kedro run --pipeline=export` wrote, such as data/06_models/<run>/export."
    )


def _write(options: argparse.Namespace) -> None:
    """Generate batch by batch; no more images are held than one batch and the grid's."""
    from lct_pipeline.progress import track

    began = time.perf_counter()
    pipeline = load_pipeline(options.model, options.device)
    loaded = time.perf_counter()
    first: list[Tensor] = []
    num_batches = -(-options.num_images // options.batch_size)
    batches = image_batches(pipeline, options)
    for start, images in track(batches, "sample", "batch", total=num_batches):
        if options.individual is not None:
            _write_individual(images, options.individual, start)
        if options.out is not None and start < MAX_GRID:
            first.append(images[: MAX_GRID - start])
    made = time.perf_counter()
    if options.out is not None:
        _write_grid(first, options.out)
    places = [str(p) for p in (options.out, options.individual) if p is not None]
    shown = min(options.num_images, MAX_GRID)
    is_cut = options.out is not None and shown < options.num_images
    sys.stdout.write(
        f"{options.num_images} images in {made - loaded:.1f} s (loading took "
        f"{loaded - began:.1f} s): {' and '.join(places)}"
        + (f" ({options.out.name} has the first {shown})" if is_cut else "")
        + "\n"
    )


def load_pipeline(folder: Path, device: str) -> Any:
    """Return the pipeline of an exported folder, on a device.

    Raises:
        DataError: The folder is damaged.
        ParameterError: The device is not there.
    """
    from lct_pipeline.models.device import choose_device

    try:
        place = choose_device(device)
    except ParameterError as error:
        message = str(error).replace("runtime.device", "--device")
        raise ParameterError(message) from None
    import diffusers

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
    from lct_pipeline.core.randomness import derived_generator

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
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images.permute(0, 2, 3, 1).numpy(), start):
        Image.fromarray(image).save(folder / f"{number:06d}.png")


def _write_grid(batches: list[Tensor], path: Path) -> None:
    import torch
    from PIL import Image

    from lct_pipeline.datasets.files import atomic_path
    from lct_pipeline.reporting.sample_grids import tile

    with atomic_path(path) as temporary:
        Image.fromarray(tile(torch.cat(batches))).save(temporary, format="png")


if __name__ == "__main__":
    main()
