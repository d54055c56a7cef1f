"""What is compared with: written part by part, loaded whole or what there is of it."""

from pathlib import Path

import pytest
import torch
from kedro.io import DatasetError

from lct_pipeline.datasets.parts import Last
from lct_pipeline.datasets.reference import FILES, Parts, Reference, ReferenceDataset
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError, user_error_in


def part(name: str, value: float = 0.0) -> Parts:
    return {name: TensorFile({"x": torch.tensor([value])}, {"about": name})}


@pytest.fixture
def dataset(tmp_path: Path) -> ReferenceDataset:
    return ReferenceDataset(path=str(tmp_path / "features"))


@pytest.fixture
def partial(tmp_path: Path) -> ReferenceDataset:
    return ReferenceDataset(path=str(tmp_path / "features"), partial=True)


def save_all(dataset: ReferenceDataset) -> None:
    dataset.save(part("extractor"))
    dataset.save(part("check_extractor"))
    dataset.save(Last(part("statistics")))


def test_it_loads_whole_once_the_last_part_is_saved(dataset: ReferenceDataset) -> None:
    save_all(dataset)
    assert dataset.exists()
    found = dataset.load()
    assert isinstance(found, Reference)
    for name in FILES:
        file = getattr(found, name)
        assert file.metadata == {"about": name}
        assert torch.equal(file.tensors["x"], torch.zeros(1))


def test_before_that_it_is_not_there(dataset: ReferenceDataset) -> None:
    dataset.save(part("extractor"))
    dataset.save(part("check_extractor"))
    dataset.save(part("statistics"))  # nobody said that this was the last
    assert not dataset.exists()
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    assert isinstance(user_error_in(caught.value), DataError)
    assert "is not there" in str(user_error_in(caught.value))


def test_what_there_is_of_it_loads_at_any_time(
    dataset: ReferenceDataset, partial: ReferenceDataset
) -> None:
    found = []
    for name in FILES:
        found.append(list(partial.load()))  # type: ignore[arg-type]
        dataset.save(part(name))
    names = list(FILES)
    assert found == [[], names[:1], names[:2]]
    dataset.save(Last({}))
    whole = partial.load()
    assert isinstance(whole, dict)
    assert {name: file.metadata["about"] for name, file in whole.items()} == {
        name: name for name in names
    }


def test_the_same_again_is_left_alone(
    dataset: ReferenceDataset, tmp_path: Path
) -> None:
    """Several runs share a reference: one may read what another would write."""

    def written() -> dict[str, int]:
        folder = tmp_path / "features"
        return {name: (folder / FILES[name]).stat().st_ino for name in FILES}

    save_all(dataset)
    before = written()
    for name in FILES:
        dataset.save(part(name))
        assert dataset.exists()
    assert written() == before


def test_the_digest_changes_with_each_part(dataset: ReferenceDataset) -> None:
    save_all(dataset)
    digests = {dataset.content_digest()}
    for name in FILES:
        dataset.save(Last(part(name, 1.0)))
        digests.add(dataset.content_digest())
    assert len(digests) == 4


@pytest.mark.parametrize("name", FILES)
def test_a_deleted_part_makes_it_incomplete(
    dataset: ReferenceDataset, tmp_path: Path, name: str
) -> None:
    save_all(dataset)
    (tmp_path / "features" / FILES[name]).unlink()
    assert not dataset.exists()
