"""Exported folders: diffusers alone makes the same images of them."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from exporting import MODELS, ONE_STEP, STORY, run_alone
from kedro.io import DatasetError
from made_results import combination, row
from torch import Tensor

from conftest import SmokeResults
from lct_pipeline.core.sampling_plans import SamplingPlan
from lct_pipeline.datasets.export_folder import ExportFolderDataset
from lct_pipeline.datasets.results import EvaluationResult
from lct_pipeline.datasets.run_folder import RunFolder
from lct_pipeline.datasets.run_records import TRAIN_NODE
from lct_pipeline.errors import ParameterError
from lct_pipeline.evaluation.generator import build_generator
from lct_pipeline.export.folder import WEIGHTS, ExportedModel, write_picture
from lct_pipeline.export.model_card import model_card
from lct_pipeline.export.single_file import single_file
from lct_pipeline.models.description import ModelDescription
from lct_pipeline.models.digests import file_digest
from lct_pipeline.parameters.export import Export
from lct_pipeline.pipelines.export import create_pipeline
from lct_pipeline.pipelines.export.choice import choose_model
from lct_pipeline.pipelines.export.story import (
    exported_model,
    public_name,
    record_of_training,
)

LOAD = """
from pathlib import Path
from diffusers import DiffusionPipeline

def load(folder, **more):
    return DiffusionPipeline.from_pretrained(
        folder, custom_pipeline=folder, trust_remote_code=True, **more
    )
"""
GENERATE = """
tasks = torch.load(sys.argv[1])
images = [load(folder)(**inputs).images for folder, inputs in tasks]
torch.save(images, sys.argv[2])
"""


@dataclass(frozen=True)
class Alone:
    """What one process made that has diffusers and not this project.

    Attributes:
        images: Of each model and plan.
        expected: The same images by this project.
        printed: What the example of the model card printed, which ran first.
        folder: Where it ran.
    """

    images: list[Tensor]
    expected: dict[str, Tensor]
    printed: str
    folder: Path


def exported_of(results: SmokeResults, **changes: Any) -> ExportedModel:
    """Run the node as `kedro run --pipeline=export` does, and return what it would save."""
    (node,) = create_pipeline().nodes
    values = {"model": "best", "license": None, "onnx": False, **changes}
    given = {
        "params:export": Export.model_validate(values),
        "params:sampling": results.parameters.sampling,
    }
    inputs = {
        name: given[name] if name in given else results.catalog.load(name)
        for name in node.inputs
    }
    return node.run(inputs)["exported_model"]


@pytest.fixture(scope="module")
def exported(results: SmokeResults) -> ExportedModel:
    return exported_of(results)


@pytest.fixture(scope="module")
def folder(exported: ExportedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("smoke") / "export"
    ExportFolderDataset(path=str(path)).save(exported)
    return path


def best_of_smoke(results: SmokeResults) -> str:
    combination = results.catalog.load("combination")
    return "combined" if combination.is_selected else combination.best_baseline


def expected_of_smoke(results: SmokeResults, plan: SamplingPlan) -> Tensor:
    load = results.catalog.load
    best = load("models").file(best_of_smoke(results))
    generator = build_generator(
        ModelDescription.from_json(best.metadata["network"]),
        load("decoder"),
        results.parameters.sampling,
        results.parameters.runtime.model_copy(update={"device": "cpu"}),
    )
    generator.load(best.tensors)
    return next(generator.images(7, plan, seed=3, purpose="a"))


@pytest.fixture(scope="module")
def alone(
    results: SmokeResults, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Alone:
    from lct_pipeline.core.sample_quality import noise_batches
    from lct_pipeline.evaluation.models import plans_of

    path, tasks, expected = tmp_path_factory.mktemp("alone"), [], {}
    for plan in plans_of(results.catalog.load("models"), best_of_smoke(results)):
        noise = noise_batches(
            7,
            (2, 4, 4),
            num_evaluations=plan.num_evaluations,
            batch_size=64,
            seed=3,
            purpose="a",
        )
        inputs = {
            "latents": next(noise),
            "num_inference_steps": plan.num_evaluations,
            "output_type": "uint8",
        }
        tasks.append((str(folder), inputs))
        expected[f"smoke, {plan}"] = expected_of_smoke(results, plan)
    for name, model in MODELS.items():
        written = str(model.write(path / name))
        for plan in model.plans:
            tasks.append((written, model.inputs(plan)))
            expected[f"{name}, {plan}"] = model.expected(plan)
    torch.save(tasks, path / "tasks")

    card = (folder / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    example = example.replace('folder = "."', f"folder = {str(folder)!r}")
    example = f"import os\nos.chdir({str(path)!r})\n{example}print(images[0].size)\n"
    files = str(path / "tasks"), str(path / "images")
    printed = run_alone(example + LOAD + GENERATE, path / "modules", *files)
    return Alone(torch.load(path / "images"), expected, printed, path)


def test_diffusers_alone_makes_the_same_images(alone: Alone) -> None:
    assert len(alone.images) == len(alone.expected) == 2 + 11
    for (name, images), other in zip(alone.expected.items(), alone.images, strict=True):
        assert images.float().std() > 1, name  # not one colour
        # weights that lie elsewhere in memory may round the last bit of a sum differently
        differs = (images.int() - other.int()).abs()
        assert differs.max() <= 1, name
        assert differs.float().mean() < 1e-3, name


def test_the_example_of_the_model_card_runs(alone: Alone) -> None:
    assert alone.printed.strip() == "(32, 32)"
    assert (alone.folder / "image.png").exists()


def test_the_folder_has_no_trace_of_this_machine(folder: Path) -> None:
    root = str(Path(__file__).parents[2])
    for path in (p for p in folder.rglob("*") if p.is_file()):
        content = path.read_bytes()
        assert root.encode() not in content, path
        assert str(folder.parent).encode() not in content, path
        assert path.stat().st_mode & 0o044 == 0o044, path


def test_samples_are_small(folder: Path) -> None:
    assert (folder / "samples.png").stat().st_size < 300 * 1024


def test_a_large_picture_is_made_smaller(tmp_path: Path) -> None:
    from PIL import Image

    noise = torch.randint(0, 255, (400, 400, 3), dtype=torch.uint8).numpy()
    write_picture(noise, tmp_path / "a.png", 50_000)
    assert (tmp_path / "a.png").stat().st_size <= 50_000
    assert Image.open(tmp_path / "a.png").width < 400


def test_an_older_folder_is_replaced_whole(
    exported: ExportedModel, tmp_path: Path
) -> None:
    dataset = ExportFolderDataset(path=str(tmp_path / "export"))
    assert not dataset.exists()
    with pytest.raises(DatasetError, match="--pipeline=export` first"):
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


# --- generated code


@pytest.mark.parametrize(
    "name",
    [
        "mlp_denoiser",
        "unet_denoiser",
        "dit_denoiser",
        "latent_scheduler",
        "latent_pipeline",
    ],
)
def test_a_single_file_imports_nothing_of_this_project(name: str) -> None:
    text = single_file(f"lct_pipeline.export.{name}")
    compile(text, name, "exec")
    assert not re.search(r"^\s*(from|import) lct_pipeline", text, re.MULTILINE)


def test_what_is_not_used_is_left_out() -> None:
    text = single_file("lct_pipeline.export.mlp_denoiser")
    assert "class MLPNetwork" in text
    assert "class LatentNormalisation" in text
    assert "PosteriorMoments" not in text
    assert "UNet" not in text


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("lct_pipeline.models.denoiser", "ResidualBlock is in .* and in"),
        ("lct_pipeline.pipelines.export.nodes", "inside a function"),
    ],
)
def test_what_one_file_cannot_say_is_refused(module: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        single_file(module)


# --- arguments of the pipeline


def test_class_names_numbers_and_lists_are_the_same() -> None:
    pipeline = MODELS["classes"].pipeline()

    def images(labels: Any, **more: Any) -> Tensor:
        noise = torch.Generator().manual_seed(0)
        made = pipeline(
            class_labels=labels, generator=noise, output_type="uint8", **more
        )
        return made.images

    cats = images("cat", batch_size=2)
    assert torch.equal(cats, images(2, batch_size=2))
    assert torch.equal(cats, images(["cat", 2]))
    assert torch.equal(cats, images(torch.tensor([2, 2])))
    assert torch.equal(images("10", batch_size=2), images(1, batch_size=2))
    assert torch.equal(images("0", batch_size=2), images(0, batch_size=2))
    assert not torch.equal(cats, images(1, batch_size=2))
    assert not torch.equal(cats, images("cat", batch_size=2, guidance_scale=1.0))


def test_classes_are_drawn_as_often_as_in_training() -> None:
    pipeline = MODELS["classes"].pipeline()
    drawn = pipeline._drawn_labels(6000, torch.Generator().manual_seed(0))
    shares = drawn.bincount() / 6000
    assert torch.allclose(shares, torch.tensor([1, 3, 2]) / 6, atol=0.02)


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("unet", {"num_inference_steps": 3}, r"1 and 2 steps, not for 3"),
        ("unet", {"sigmas": [80.0, 90.0]}, "they decrease from 80.0"),
        ("unet", {"sigmas": [80.0, 1.0], "num_inference_steps": 3}, "not those of 3"),
        ("unet", {"class_labels": 1}, "no classes"),
        ("unet", {"guidance_scale": 2.0}, "no classes"),
        ("unet", {"output_type": "jpeg"}, "give pil, uint8"),
        ("heun", {"num_inference_steps": 4}, "odd number from 3 on"),
        ("heun", {"sigmas": [80.0]}, "consistency models alone"),
        (
            "classes",
            {"class_labels": "dog"},
            "dog is no class; there are 3: 2, 10, cat",
        ),
        ("classes", {"class_labels": 3}, "3 is no class"),
        ("classes", {"class_labels": [0, 1], "batch_size": 3}, "do not go together"),
    ],
)
def test_arguments_that_do_not_fit_are_told(
    model: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        MODELS[model].pipeline()(**arguments)


def test_other_levels_take_the_noise_that_the_run_chose() -> None:
    scheduler = MODELS["unet"].pipeline().scheduler
    first = {**scheduler.config.plans[0], "num_evaluations": 1, "sigmas": [80.0]}
    for renoise in ("fresh", "same"):
        second = {**first, "num_evaluations": 2, "sigmas": [80.0, 1.0]}
        plans = [first, {**second, "renoise": renoise}]
        chosen = type(scheduler).from_config({**scheduler.config, "plans": plans})
        assert chosen.plan(None, [80.0, 0.5]).renoise == renoise


def test_other_levels_may_be_given() -> None:
    pipeline, noise = MODELS["unet"].pipeline(), torch.randn(3, 1, 4, 8, 8)
    own = pipeline(sigmas=[80.0, 0.5], latents=noise, output_type="pt").images
    is_fresh = pipeline.scheduler.config.plans[-1]["renoise"] == "fresh"
    new = noise[[0, int(is_fresh)]]
    model = MODELS["unet"].generator().model
    with torch.no_grad():
        first = model(80 * new[0], torch.tensor([80.0]))
        x_t = first + (0.5**2 - 0.002**2) ** 0.5 * new[1]
        x = model(x_t, torch.tensor([0.5]))
        z = MODELS["unet"].normalisation.denormalise(x)
        images = MODELS["unet"].autoencoder.decode(z).sample.clamp(-1, 1)
    assert torch.allclose(own, (images + 1) / 2, atol=1e-4)


def test_every_form_of_output_is_the_same_image() -> None:
    pipeline, noise = MODELS["unet"].pipeline(), torch.randn(2, 4, 8, 8)

    def images(form: str) -> Any:
        return pipeline(latents=noise, output_type=form, return_dict=False)[0]

    levels = images("uint8")
    assert levels.shape == (2, 3, 16, 16)
    assert torch.equal((images("pt") * 255).round().byte(), levels)
    assert images("np").shape == (2, 16, 16, 3)
    assert images("pil")[1].getpixel((3, 5)) == tuple(levels[1, :, 5, 3].tolist())
    assert images("latent").shape == (2, 4, 8, 8)


def test_weights_of_half_the_size_make_about_the_same_image() -> None:
    noise = torch.randn(2, 4, 8, 8)
    pipeline = MODELS["unet"].pipeline()
    exact = pipeline(latents=noise, output_type="pt").images
    pipeline.to(torch.bfloat16)
    rough = pipeline(latents=noise, output_type="pt").images
    assert 0 < (rough - exact).abs().mean() < 0.05


# --- which model, and its card


@pytest.mark.parametrize(
    ("changes", "best"),
    [
        ({}, "combined"),
        ({"is_selected": False}, "best_ema"),
        ({"is_selected": False, "best_baseline": "last"}, "last"),
    ],
    ids=str,
)
def test_the_best_is_the_combination_where_it_was_selected_else_the_best_baseline(
    results: SmokeResults, changes: dict[str, Any], best: str
) -> None:
    load = results.catalog.load
    given = [load(name) for name in ("checkpoint_index", "best_ema", "combined_model")]
    chosen = choose_model("best", *given, combination(**changes))
    assert chosen.evaluated_as == best
    for name, tensor in load("models").file(best).tensors.items():
        assert torch.equal(chosen.tensors[name], tensor)


def test_before_a_combination_the_best_is_the_best_ema(results: SmokeResults) -> None:
    catalog, best_ema = (
        results.catalog.load(name) for name in ("checkpoint_index", "best_ema")
    )
    chosen = choose_model("best", catalog, best_ema, None, None)
    assert (chosen.title, chosen.evaluated_as) == ("best EMA", "best_ema")


def test_a_model_is_chosen_by_name(results: SmokeResults) -> None:
    catalog = results.catalog.load("checkpoint_index")
    last = choose_model("last", catalog, None, None, None)
    assert (last.weights, last.evaluated_as) == ("step-0000060-raw", "last")
    named = choose_model("step-0000060-raw", catalog, None, None, None)
    assert named.evaluated_as is None
    for name, tensor in named.tensors.items():
        assert torch.equal(tensor, last.tensors[name])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("best", "--pipeline=evaluate"),
        ("combined", "--pipeline=combine"),
        ("best_ema", "--pipeline=evaluate"),
        ("step-1", "name of a checkpoint, such as step-0000060-raw"),
    ],
)
def test_a_model_that_is_not_there_is_told_with_the_command_that_makes_it(
    results: SmokeResults, name: str, message: str
) -> None:
    catalog = results.catalog.load("checkpoint_index")
    with pytest.raises(ParameterError, match=message):
        choose_model(name, catalog, None, None, None)


def test_before_an_evaluation_one_step_is_known(
    results: SmokeResults, tmp_path: Path
) -> None:
    load = results.catalog.load
    whole = load("run_folder")
    before = RunFolder(tmp_path / "models" / whole.name, tmp_path / "reporting")
    shutil.copytree(whole.reporting / "records", before.reporting / "records")
    model = exported_model(
        before,
        load("checkpoint_index"),
        load("decoder"),
        Export(model="last", license="mit", onnx=False),
        results.parameters.sampling,
    )
    assert [p["num_evaluations"] for p in model.pipeline.scheduler.config.plans] == [1]
    card = model_card(model.story, model.pipeline, "0" * 64)
    assert "this model was not evaluated" in card
    assert "license: mit" in card
    assert "not given yet" not in card


def test_a_combination_that_is_newer_than_the_evaluation_takes_one_step(
    results: SmokeResults, tmp_path: Path
) -> None:
    load = results.catalog.load
    whole = load("run_folder")
    run = RunFolder(tmp_path / "models" / whole.name, tmp_path / "reporting")
    shutil.copytree(whole.reporting / "records", run.reporting / "records")
    run.models.mkdir(parents=True)
    shutil.copy(whole.models / "combined_model.safetensors", run.models)
    said = whole.values("sampling_plans")
    del said["plans"]["combined"], said["two_step_improves"]["combined"]
    (run.models / "sampling_plans.json").write_text(json.dumps(said))
    rows = [each for each in whole.evaluation if each.model != "combined"]
    text = EvaluationResult(rows=rows).model_dump_json()
    (run.reporting / "evaluation.json").write_text(text)
    model = exported_model(
        run,
        load("checkpoint_index"),
        load("decoder"),
        Export(model="combined", license=None, onnx=False),
        results.parameters.sampling,
    )
    assert [p["num_evaluations"] for p in model.pipeline.scheduler.config.plans] == [1]
    card = model_card(model.story, model.pipeline, "0" * 64)
    assert "this model was not evaluated" in card


def test_the_card_has_figures_with_their_protocol(exported: ExportedModel) -> None:
    import yaml

    card = model_card(exported.story, exported.pipeline, "0" * 64)
    header = yaml.safe_load(card.split("---")[1])
    assert "license" not in header
    assert "Licence: not given yet" in card
    assert header["library_name"] == "diffusers"
    (result,) = header["model-index"][0]["results"]
    frechet = result["metrics"][0]
    assert frechet["type"] == "classifier_frechet_distance"
    assert "64 images against 385 of the test split" in frechet["name"]
    assert not [m for m in result["metrics"] if "fid" in m["type"]]
    assert ", 1 step |" in card
    assert "| Real images |" in card


def test_a_figure_is_that_of_the_rows() -> None:
    rows = [row("last", 8.4, 0.5), row("last", 1.0, metric="density")]
    story = replace(STORY, rows=rows)
    card = model_card(story, MODELS["unet"].pipeline(), "0" * 64)
    assert "| Last checkpoint, 1 step | 8.4 ± 0.5 |" in card
    assert "classifier, 2,000 images against 385 of the test split [aaaa1111]" in card
    assert "density" not in card


@pytest.mark.parametrize(
    ("source", "public"),
    [
        ("/home/me/secret/photos", "photos"),
        ("photos.zip", "photos.zip"),
        ("hf://datasets/a/b", "hf://datasets/a/b"),
    ],
)
def test_the_card_has_no_folders_of_this_machine(source: str, public: str) -> None:
    assert public_name(source) == public


def test_the_card_tells_of_the_session_that_trained() -> None:
    def record(*nodes: str) -> dict[str, Any]:
        return {"nodes": [{"node": node} for node in nodes]}

    trained, later = record("encode", TRAIN_NODE), record("export.export_model")
    assert record_of_training([record(), trained, later]) is trained
    assert record_of_training([record(), later]) is later


def test_one_step_is_the_default_of_a_consistency_model() -> None:
    assert MODELS["unet"].pipeline().scheduler.plan(None) == ONE_STEP
    assert MODELS["dpm_solver"].pipeline().scheduler.plan(None).num_evaluations == 5
