"""``python -m lct_pipeline.sample``: pictures from an exported model.

.. code-block:: bash

    python -m lct_pipeline.sample --model data/06_models/<run>/export --num-images 64 --out grid.png
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from lct_pipeline.errors import DataError, ParameterError, UserError, one_message
from lct_pipeline.plain_text import printable

INDEX = "model_index.json"
AT_LEAST_1 = click.IntRange(min=1)
PATH = click.Path(path_type=Path)
DEVICES = click.Choice(["auto", "cpu", "cuda", "mps"])


@click.command(context_settings={"show_default": True})
@click.option(
    "--model", type=PATH, required=True, help="an exported folder, or a run's"
)
@click.option("--num-images", type=AT_LEAST_1, default=64)
@click.option(
    "--steps",
    "num_inference_steps",
    type=AT_LEAST_1,
    help="network evaluations; left out: as many as suit the model, often 1",
)
@click.option("--seed", default=0, help="of the noise")
@click.option("--out", type=PATH, metavar="PNG", help="picture of 256 images at most")
@click.option(
    "--individual",
    type=PATH,
    metavar="FOLDER",
    help="write each image to a file here, and no grid but where --out is given",
)
@click.option(
    "--label",
    "class_labels",
    help="class of all images, by name or number; left out: as in training",
)
@click.option(
    "--guidance",
    "guidance_scale",
    type=float,
    help="weight of classifier-free guidance; 1: none",
)
@click.option("--batch-size", type=AT_LEAST_1, default=64, help="images at a time")
@click.option("--device", type=DEVICES, default="auto")
def main(
    model: Path, out: Path | None, individual: Path | None, device: str, **options: Any
) -> None:
    """Generate images with a model that `kedro run --pipeline=export` wrote.

    Its folder contains Python code, which is run: use folders that you trust.
    """
    if out is None and individual is None:
        out = Path("grid.png")
    with one_message():
        _check(out, individual)
        folder = exported_folder(model)
        from lct_pipeline.export.pictures import load_pipeline, write_pictures

        pipeline = load_pipeline(folder, device)
        try:
            said = write_pictures(pipeline, out, individual, **options)
        except ValueError as error:  # those of the pipeline are for users too
            raise UserError(str(error)) from error
        click.echo(printable(said))


def _check(out: Path | None, individual: Path | None) -> None:
    """Refuse what cannot be written, before anything heavy is loaded."""
    if out is not None and (out.suffix != ".png" or out.is_dir()):
        raise ParameterError(f"--out={out}: give a file name ending in .png.")
    if individual is not None and individual.exists():
        if not individual.is_dir() or any(individual.iterdir()):
            raise ParameterError(
                f"--individual={individual}: give a new or empty folder."
            )


def exported_folder(path: Path) -> Path:
    """Return the folder that diffusers loads: the given one, or that in a run's folder.

    Raises:
        DataError: There is none.
    """
    for folder in (path, path / "export"):
        if (folder / INDEX).is_file():
            return folder
    if (path / "checkpoints").is_dir():
        params = shlex.quote(f"--params=run_id={path.resolve().name}")
        raise DataError(
            f"--model={path}: this run was not exported yet. Run `kedro run --pipeline=export "
            f"{params}` first."
        )
    raise DataError(
        f"--model={path}: no model_index.json there. Give the folder that "
        "`kedro run --pipeline=export` wrote, such as data/06_models/<run>/export."
    )


if __name__ == "__main__":
    main()
