"""Where images come from: this project's models, or a function of the user."""

from __future__ import annotations

import importlib
import math
import pickle
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from configuration import recipe
from small_runs import D, Run, generate, last_of, weights
from torch import Tensor, nn

from lct_pipeline.combination.fitness import Fitness
from lct_pipeline.combination.sources import FunctionSource, ModelSource, Request
from lct_pipeline.combination.stage import SEARCH_SPLIT
from lct_pipeline.core.randomness import derived_seed
from lct_pipeline.datasets.checkpoints import CheckpointCatalog, CheckpointsDataset
from lct_pipeline.datasets.external_checkpoints import ExternalCheckpointsDataset
from lct_pipeline.errors import DataError, MeasureError, ParameterError
from lct_pipeline.evaluation.evaluator import Evaluator
from lct_pipeline.evaluation.feature_spaces import FEATURES_AS_GIVEN, FeatureSpace
from lct_pipeline.evaluation.generator import build_generator
from lct_pipeline.evaluation.plans import one_step
from lct_pipeline.pipelines.cataloging.nodes import (
    import_checkpoints,
    index_checkpoints,
)

REQUEST = Request("search", 12, 0)


@pytest.mark.parametrize("name", ["generator", "references"])
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("no_such_module:generate", "No module named 'no_such_module'"),
        ("small_runs:no_such_function", "has no attribute 'no_such_function'"),
    ],
)
def test_an_import_path_without_a_function_is_refused_with_the_reason(
    tiny: Run, name: str, path: str, reason: str
) -> None:
    message = rf"combination\.{name}='{path}' cannot be imported: .*{reason}.*Give pack"
    with pytest.raises(ParameterError, match=message):
        next(tiny.search({name: path}))


def test_a_function_gets_weights_number_and_a_seed_for_the_purpose() -> None:
    calls: list[Any] = []
    function = lambda *args, **kwargs: calls.append((args, kwargs)) or []  # noqa: E731
    source, tensors = FunctionSource(function, gives_features=True), weights(10)
    list(source.batches(tensors, Request("choice", 0, 5)))
    assert calls == [((tensors,), {"num_images": 0, "seed": derived_seed(5, "choice")})]


def test_a_function_that_gives_images_is_compared_by_the_extractor(
    pixels: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is here the project's own model again, so it scores the same."""
    stage, parameters = pixels.stage(), pixels.parameters
    settings = parameters.sampling, parameters.runtime
    generator = build_generator(stage.task.network, pixels.decoder, *settings)

    def again(weights: Any, *, num_images: int, seed: int) -> Iterator[Tensor]:
        generator.load(weights)
        plan = one_step(generator.network)
        yield from generator.images(num_images, plan, seed=0, purpose="search")

    monkeypatch.setattr(sys.modules["small_runs"], "again", again, raising=False)
    function = pixels.stage({"generator": "small_runs:again"})
    assert function.metric == stage.metric == "classifier_frechet_distance"
    tensors = pixels.catalog.store.read("step-0000010-raw").tensors
    one, other = (
        Fitness(s.task, s.real(SEARCH_SPLIT)).measure(tensors, REQUEST)
        for s in (stage, function)
    )
    assert one == other


def test_our_own_models_are_sampled_as_they_will_be_used(pixels: Run) -> None:
    changes = {"fitness.nfe": 2, "fitness.intermediate_sigma": 0.7}
    one, two = (pixels.stage(chosen).task.source() for chosen in ({}, changes))
    assert isinstance(one, ModelSource) and isinstance(two, ModelSource)
    assert (one.plan.sigmas, two.plan.sigmas) == ((80.0,), (80.0, 0.7))
    assert two.plan.renoise == pixels.combination().fitness.renoise


def test_weights_of_another_network_are_refused(pixels: Run) -> None:
    source = pixels.stage().task.source()
    tensors = pixels.catalog.store.read("step-0000010-raw").tensors
    other = {**tensors, next(iter(tensors)): torch.zeros(1, 2, 3)}
    message = "do not fit the network of the run: .*size mismatch"
    with pytest.raises(DataError, match=message):
        source.batches(other, REQUEST)


def test_without_an_autoencoder_the_command_is_told(pixels: Run) -> None:
    message = "autoencoder of this run is not there. Run `kedro run --pipeline=encode`"
    with pytest.raises(DataError, match=message):
        next(replace(pixels, decoder=None).search())


def test_checkpoints_are_decoded_by_the_autoencoder_that_they_belong_to(
    pixels: Run,
) -> None:
    rows = pixels.catalog.rows.assign(autoencoder="0" * 64)
    with pytest.raises(DataError, match="belongs to other weights of the autoencoder"):
        next(replace(pixels, catalog=replace(pixels.catalog, rows=rows)).search())


def test_checkpoints_of_another_trainer_need_a_function(tiny: Run, pixels: Run) -> None:
    message = r"combination\.generator; see docs/other_checkpoints\.md"
    with pytest.raises(DataError, match=message):
        next(replace(pixels, catalog=tiny.catalog).search({"window": 1.0}))


def images(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("batches", "gives_images", "message"),
    [
        ([images(4, 3, 8, 8)], True, "gave 4 images where 12 were asked for"),
        ([images(7, 3, 8, 8)] * 2, True, "gave 14 images where 12 were asked for"),
        ([], True, "gave 0 images where 12 were asked for"),
        ([images(12, 3, 8)], True, r"it gave torch.uint8 of shape \(12, 3, 8\)"),
        ([images(12, 8, 8, 3)], True, r"it gave torch.uint8 of shape \(12, 8, 8, 3\)"),
        ([torch.zeros(12, 3, 8, 8)], True, "it gave torch.float32 of shape"),
        ([torch.zeros(12, 5)], True, r"with combination\.references, of float features"),
        ([images(12, 3, 8, 8)], False, "it gave torch.uint8 of shape"),
        ([torch.zeros(12)], False, r"it gave torch.float32 of shape \(12,\)"),
        ([np.zeros((12, 3))], False, "it gave ndarray"),
        ([torch.full((12, 5), math.nan)], False, "values that are not finite"),
    ],
    ids=range(11),
)  # fmt: skip
def test_what_a_generator_should_not_give_is_named(
    batches: list[Any], gives_images: bool, message: str
) -> None:
    source = FunctionSource(lambda *_, **__: iter(batches), not gives_images)
    with pytest.raises(DataError, match=rf"combination\.generator.*{message}"):
        list(source.batches({}, REQUEST))


def failing(error: type[Exception]) -> FunctionSource:
    def function(*_: Any, **__: Any) -> Iterator[Tensor]:
        yield torch.zeros(4, 2)
        raise error("it is")

    return FunctionSource(function, gives_features=True)


def test_what_a_function_raises_is_of_these_weights_unless_no_others_would_help() -> (
    None
):
    place = rf"raised ZeroDivisionError: it is \(.*{Path(__file__).name}, line \d+\)"
    with pytest.raises(MeasureError, match=place):
        list(failing(ZeroDivisionError).batches({}, REQUEST))
    for error in (MemoryError, ModuleNotFoundError, torch.OutOfMemoryError):
        with pytest.raises(error, match="it is"):
            list(failing(error).batches({}, REQUEST))


def careless(weights: Any, *, num_images: int, seed: int) -> list[Tensor]:
    return [torch.randn(num_images, D)]


def stubborn(weights: Any, *, num_images: int, seed: int) -> list[Tensor]:
    return [torch.randn(num_images, D, generator=torch.Generator().manual_seed(1))]


def rounding(weights: Any, *, num_images: int, seed: int) -> Iterator[Tensor]:
    for batch in generate(weights, num_images=num_images, seed=seed):
        yield batch + 1e-3 * torch.rand(1)


def test_a_generator_that_does_not_mind_its_seed_is_noticed(
    tiny: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def begin(function: Any) -> None:
        monkeypatch.setattr(sys.modules["small_runs"], "generate", function)
        next(tiny.search())

    caplog.set_level("WARNING")
    begin(rounding)
    assert not caplog.messages
    begin(stubborn)
    (said,) = caplog.messages
    assert "the same images for two seeds" in said
    with pytest.raises(DataError, match="other images for the same seed"):
        begin(careless)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.bfloat16])
def test_features_of_any_float_type_are_taken(dtype: torch.dtype) -> None:
    given = torch.full((12, 2), 0.5, dtype=dtype, requires_grad=True)
    source = FunctionSource(lambda *_, **__: iter([given]), gives_features=True)
    space = FeatureSpace(FEATURES_AS_GIVEN, ())
    (found,) = Evaluator((space,)).features(source.batches({}, REQUEST), 12)
    assert torch.equal(found.kept, torch.full((12, 2), 0.5))
    assert not found.kept.requires_grad


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.zeros(40, 3).int(), r"it gave torch\.int32 of shape \(40, 3\)"),
        (torch.zeros(40), r"it gave torch\.float32 of shape \(40,\)"),
        (torch.zeros(5, 3), r"of at least 6 real images; it gave 5 of them"),
        ([[0.0, 0.0]], "it gave list"),
        (torch.full((40, 3), math.nan), "it gave values that are not finite"),
        (torch.randn(40, 5), r"have 3 features each, those of combination\.references 5"),
    ],
    ids=range(6),
)  # fmt: skip
def test_what_references_should_not_give_is_named(
    tiny: Run, monkeypatch: pytest.MonkeyPatch, features: Any, message: str
) -> None:
    monkeypatch.setattr(sys.modules["small_runs"], "references", lambda _: features)
    with pytest.raises(DataError, match=message):
        next(tiny.search())


def test_a_task_can_be_sent_to_another_process(pixels: Run, tiny: Run) -> None:
    copy = pickle.loads(pickle.dumps(pixels.stage().task))
    assert isinstance(copy.source(), ModelSource)
    assert copy.built_extractor().name == "classifier"
    features = pickle.loads(pickle.dumps(tiny.stage().task))
    assert isinstance(features.source(), FunctionSource)
    assert features.built_extractor() is FEATURES_AS_GIVEN


# a trainer that knows nothing of this project, and a module of its user


class Picture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 192))

    def forward(self, noise: Tensor) -> Tensor:
        return self.body(noise).sigmoid().view(-1, 3, 8, 8)


MODULE = """
import torch
from {file} import Picture

def generate(weights, *, num_images, seed, metadata):
    assert metadata == {{"config.json": '{{"alpha": 16}}'}}
    picture = Picture().eval()
    picture.load_state_dict(weights)
    noise = torch.randn(num_images, 4, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for part in noise.split(7):
            yield (picture(part) * 255).byte()
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Write a module of the user into the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "my_model.py").write_text(MODULE.format(file=Path(__file__).stem))
    importlib.invalidate_caches()
    yield
    sys.modules.pop("my_model", None)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    folder = tmp_path / "theirs"
    folder.mkdir()
    torch.manual_seed(0)
    picture = Picture().train()
    for step in (100, 200, 300):
        for parameter in picture.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        picture(torch.randn(5, 4))
        torch.save({"model": picture.state_dict()}, folder / f"model-{step}.pt")
    (folder / "config.json").write_text('{"alpha": 16}')
    return folder


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize("method", ["cma", "evolution", "random"])
def test_checkpoints_of_another_trainer_are_combined_into_its_own_model(
    pixels: Run, theirs: Path, method: str
) -> None:
    nothing = dict.fromkeys(("pattern", "step", "names", "strip_prefix"))
    found = ExternalCheckpointsDataset(
        source=str(theirs), **nothing, entry="model", kind="raw"
    ).load()
    ours = CheckpointsDataset(path=str(theirs.parent / "run" / "checkpoints"))
    for part in import_checkpoints(found, ours.load()):
        ours.save(part)
    catalog = CheckpointCatalog(
        index_checkpoints(ours.load(), recipe().features), ours.load()
    )
    run = replace(pixels, catalog=catalog, decoder=None)
    changes = {
        "window": 1.0,
        "generator": "my_model:generate",
        "search.methods": (method,),
        "search.num_evaluations": 8,
    }
    scores = last_of(run.score(run.history(changes), changes))
    _, model, combination = run.select(scores, changes)
    assert combination.steps == [100, 200, 300]
    Picture().load_state_dict(model.tensors, strict=True)
    assert model.metadata["said"] == {"config.json": '{"alpha": 16}'}
    trained = torch.load(theirs / "model-300.pt")["model"]
    count = "body.1.num_batches_tracked"
    assert torch.equal(model.tensors[count], trained[count])
