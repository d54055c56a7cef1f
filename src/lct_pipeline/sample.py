"""``python -m lct_pipeline.sample``: pictures from an exported model.

.. code-block:: bash

    python -m lct_pipeline.sample --model data/06_models/<run>/export --num-images 64 --out grid.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lct_pipeline.errors import DataError, ParameterError, UserError

MAX_GRID = 256  # images in one picture
INDEX = "model_index.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Generate images and write them, or say in one message why not."""
    options = _parser().parse_args(arguments)
    try:
        _check(options)
        from lct_pipeline.export.pictures import write_pictures

        sys.stdout.write(f"{write_pictures(options, MAX_GRID)}\n")
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


if __name__ == "__main__":
    main()
