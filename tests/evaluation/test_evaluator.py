"""The one way from images to values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import torch
from measuring import frechet_of_sets
from torch import Tensor

from lct_pipeline.core.metrics.feature_sets import FeatureSet
from lct_pipeline.core.metrics.kernel import kernel_distance
from lct_pipeline.errors import DataError, MeasureError
from lct_pipeline.evaluation import feature_spaces
from lct_pipeline.evaluation.evaluator import Evaluator
from lct_pipeline.evaluation.feature_spaces import (
    FEATURES_AS_GIVEN,
    FeatureSpace,
    RealImages,
    real_images_of,
)
from lct_pipeline.evaluation.generator import Subject
from lct_pipeline.evaluation.protocol import FILES, SLCT_PAPER
from lct_pipeline.models.autoencoder import to_uint8
from lct_pipeline.models.features.base import FeatureExtractor

NUM, SIDE = 24, 8


def colours(images: Tensor) -> Tensor:
    return images.float().mean((2, 3)) / 255


def corners(images: Tensor) -> Tensor:
    return images[:, :, ::7, ::7].float().flatten(1) / 255


def extractor(name: str) -> FeatureExtractor:
    extract = {"colours": colours, "corners": corners}[name]
    return replace(FEATURES_AS_GIVEN, name=name, extract=extract)


def images(seed: int, num: int = NUM) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    shape = (num, 3, SIDE, SIDE)
    return torch.randint(256, shape, generator=random, dtype=torch.uint8)


REAL = images(100, 40)


def space(name: str) -> FeatureSpace:
    built = extractor(name)
    return FeatureSpace(built, (real_images_of(built.extract(REAL), "real images"),))


def subject(made: list[int]) -> Subject:
    def batches(seed: int) -> Iterator[Tensor]:
        for batch in images(seed).split(7):
            made.append(len(batch))
            yield batch

    return Subject({"model": "last", "nfe": 1}, NUM, batches)


@pytest.mark.parametrize("num_retained", [None, NUM, 10])
def test_values_are_those_of_the_features_of_all_images(
    num_retained: int | None,
) -> None:
    spaces = [space("colours"), space("corners")]
    evaluator = Evaluator(spaces, num_retained=num_retained, num_blocks=2)
    found = evaluator.measure(subject([]), [3]).rows
    values = {(row.extractor, row.metric): row.value for row in found}
    for each in spaces:
        name, extract = each.extractor.name, each.extractor.extract
        features, real = extract(images(3)), extract(REAL)
        distance = values[name, each.extractor.frechet_name]
        assert distance == pytest.approx(frechet_of_sets(features, real), rel=1e-4)
        kernel = kernel_distance(features[:num_retained], real).value
        assert values[name, each.extractor.kernel_name] == pytest.approx(kernel)


def test_a_kernel_distance_has_its_spread_over_subsets_where_there_are_enough_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    each, of_five = space("colours"), partial(kernel_distance, subset_size=5)

    def spread() -> float | None:
        rows = Evaluator([each], num_retained=NUM).measure(subject([]), [3]).rows
        return next(
            r.subset_std for r in rows if r.metric == each.extractor.kernel_name
        )

    assert spread() is None
    monkeypatch.setattr(feature_spaces, "kernel_distance", of_five)
    features, real = each.extractor.extract(images(3)), each.extractor.extract(REAL)
    assert spread() == pytest.approx(of_five(features, real).subset_std)


def test_each_image_is_made_once_however_many_extractors_see_it() -> None:
    made: list[int] = []
    evaluator = Evaluator([space("colours"), space("corners")], num_retained=NUM)
    evaluator.measure(subject(made), [1, 2])
    assert sum(made) == 2 * NUM


def test_values_are_means_over_seeds_and_each_seed_is_told() -> None:
    evaluator = Evaluator([space("colours")])
    one, two, both = (
        evaluator.measure(subject([]), seeds).rows[0] for seeds in ([1], [2], [1, 2])
    )
    assert both.by_seed == [one.value, two.value]
    assert both.value == pytest.approx((one.value + two.value) / 2)
    assert one.std is None and both.seeds == [1, 2]


def test_images_are_stored_as_the_format_says_before_they_are_seen() -> None:
    plain, stored = (
        Evaluator([space("corners")], image_format).features([images(1)], NUM)[0].kept
        for image_format in (Evaluator.image_format, SLCT_PAPER)
    )
    assert (plain - stored).abs().max() > 0.01
    assert torch.equal(plain, corners(images(1)))


def test_what_somebody_wrote_to_files_is_taken_as_it_is() -> None:
    (found,) = Evaluator([space("corners")], FILES).features([images(1)], NUM)
    assert torch.equal(found.kept, corners(images(1)))


def test_where_only_features_are_wanted_no_classes_are_told() -> None:
    asked: list[int] = []

    def classify(features: Tensor) -> Tensor:
        asked.append(len(features))
        return torch.full((len(features), 2), 0.5)

    telling = replace(extractor("colours"), classify=classify)
    for num_retained in (None, NUM):
        Evaluator([FeatureSpace(telling, ())], num_retained=num_retained).features(
            [images(1)], NUM
        )
    assert asked == [NUM]


@pytest.mark.parametrize("num_real", [2, 5, 6])
def test_metrics_that_need_more_images_are_left_out(
    num_real: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Density and coverage take the fifth neighbour in the same set."""
    built, title = extractor("colours"), f"{num_real} images"
    real = real_images_of(colours(images(7, num_real)), title)
    evaluator = Evaluator([FeatureSpace(built, (real,))])
    found = {row.metric for row in evaluator.measure(subject([]), [1, 2]).rows}
    of_all = {built.frechet_name, built.kernel_name}
    manifold = {"precision", "recall", "density", "coverage"}
    assert found == of_all | (manifold if num_real > 5 else set())
    assert caplog.text.count(f"{title} are left out") == (num_real <= 5)


def test_of_a_model_that_gives_nothing_its_name_is_told() -> None:
    def broken(seed: int) -> Iterator[Tensor]:
        yield to_uint8(torch.full((NUM, 3, SIDE, SIDE), torch.nan), "the decoder")

    about = {"model": "combined", "nfe": 2}
    with pytest.raises(MeasureError, match="combined, 2 evaluations: the decoder"):
        Evaluator([space("colours")]).measure(Subject(about, NUM, broken), [1])


def test_features_of_chosen_images_are_kept() -> None:
    keep = torch.arange(NUM) % 5 == 0
    evaluator = Evaluator([space("colours")], num_retained=5, num_blocks=1)
    (found,) = evaluator.features([images(1)], NUM, keep)
    assert torch.equal(found.kept, colours(images(1))[keep])
    assert found.statistics.num_images == NUM


def test_features_of_another_extractor_are_refused() -> None:
    real: RealImages = space("colours").references[0]
    other = FeatureSet([], corners(images(1)), None)
    with pytest.raises(DataError, match=r"12 features each, those of real images 3"):
        real.frechet_distance(other)
