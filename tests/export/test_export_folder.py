"""Exported folders: diffusers alone makes the same images of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from exporting import MODELS, STORY, run_alone
from kedro.io import DatasetError
from PIL import Image
from torch import Tensor

from lct_pipeline.datasets.export_folder import ExportFolderDataset
from lct_pipeline.export.folder import WEIGHTS, ExportedModel, write_picture
from lct_pipeline.models.digests import file_digest

GENERATE = """
import sys
import torch
from diffusers import DiffusionPipeline

def load(folder):
    return DiffusionPipeline.from_pretrained(
        folder, custom_pipeline=folder, trust_remote_code=True
    )

tasks = torch.load(sys.argv[1])
torch.save([load(f)(**inputs).images for f, inputs in tasks], sys.argv[2])
for folder, inputs in tasks[:3]:
    load(folder).save_pretrained(f"{folder}-again")
    again = DiffusionPipeline.from_pretrained(f"{folder}-again", trust_remote_code=True)
    assert torch.equal(again(**inputs).images, load(f"{folder}-again")(**inputs).images)
    assert torch.equal(again(**inputs).images, load(folder)(**inputs).images)
"""
PLANS = [(name, plan) for name, model in MODELS.items() for plan in model.plans]


@dataclass(frozen=True)
class Alone:
    """What one process made that has diffusers and not this project.

    Attributes:
        images: Of each model and plan.
        printed: What the example of a model card printed, which ran first.
        folder: Where it ran, with the folder of each model.
    """

    images: list[Tensor]
    printed: str
    folder: Path


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    path = tmp_path_factory.mktemp("alone")
    folders = {name: str(model.write(path / name)) for name, model in MODELS.items()}
    tasks = [(folders[name], MODELS[name].inputs(plan)) for name, plan in PLANS]
    torch.save(tasks, path / "tasks")
    card = (path / "classes" / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    example = example.replace('folder = "."', f"folder = {folders['classes']!r}")
    example = f"import os\nos.chdir({str(path)!r})\n{example}print(images[0].size)\n"
    files = str(path / "tasks"), str(path / "images")
    printed = run_alone(example + GENERATE, path / "modules", *files)
    return Alone(torch.load(path / "images"), printed, path)


def test_diffusers_alone_makes_the_same_images(alone: Alone) -> None:
    assert len(alone.images) == 11
    for (name, plan), found in zip(PLANS, alone.images, strict=True):
        images = MODELS[name].expected(plan)
        assert images.float().std() > 1, name  # not one colour
        # weights that lie elsewhere in memory may round the last bit of a sum differently
        differs = (images.int() - found.int()).abs()
        assert differs.max() <= 1, name
        assert differs.float().mean() < 1e-3, name


def test_the_example_of_the_model_card_runs(alone: Alone) -> None:
    assert alone.printed.strip() == "(16, 16)"
    assert (alone.folder / "image.png").exists()


def test_a_folder_has_no_trace_of_this_machine_and_can_be_read(alone: Alone) -> None:
    root = str(Path(__file__).parents[2])
    for name in MODELS:
        for path in (p for p in (alone.folder / name).rglob("*") if p.is_file()):
            content = path.read_bytes()
            assert root.encode() not in content, path
            assert str(alone.folder).encode() not in content, path
            assert path.stat().st_mode & 0o044 == 0o044, path


def test_samples_are_small(alone: Alone) -> None:
    assert (alone.folder / "unet" / "samples.png").stat().st_size < 300 * 1024


def test_a_large_picture_is_made_smaller(tmp_path: Path) -> None:
    noise = torch.randint(0, 255, (400, 400, 3), dtype=torch.uint8).numpy()
    write_picture(noise, tmp_path / "a.png", 50_000)
    assert (tmp_path / "a.png").stat().st_size <= 50_000
    assert Image.open(tmp_path / "a.png").width < 400


def test_an_older_folder_is_replaced_whole(tmp_path: Path) -> None:
    exported = ExportedModel(MODELS["pixels"].pipeline(), STORY, onnx=False)
    dataset = ExportFolderDataset(path=str(tmp_path / "export"))
    assert not dataset.exists()
    with pytest.raises(DatasetError, match=r"--pipeline=export.* first"):
        dataset.load()
    dataset.save(exported)
    digest = dataset.content_digest()
    (dataset.load() / "generator.onnx").write_text("of another model")
    assert dataset.content_digest() != digest
    dataset.save(exported)
    assert not (dataset.load() / "generator.onnx").exists()
    assert dataset.content_digest() == digest
    card = (dataset.load() / "README.md").read_text()
    assert file_digest(dataset.load() / WEIGHTS) in card
