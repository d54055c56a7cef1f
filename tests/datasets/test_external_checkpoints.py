"""Checkpoints of other trainers: the layouts read whole, and their agreement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from kedro.io import DatasetError
from safetensors.torch import save_file
from torch import Tensor

from lct_pipeline.datasets.external_checkpoints import (
    ExternalCheckpoints,
    ExternalCheckpointsDataset,
)
from lct_pipeline.errors import DataError

NOTHING: dict[str, Any] = {
    "pattern": None,
    "step": None,
    "entry": None,
    "names": None,
    "strip_prefix": None,
    "kind": "raw",
}


def load(folder: Path, **changes: Any) -> ExternalCheckpoints:
    dataset = ExternalCheckpointsDataset(source=str(folder), **{**NOTHING, **changes})
    found = dataset.load()
    assert found is not None
    return found


def read_all(found: ExternalCheckpoints) -> dict[int, dict[str, Tensor]]:
    return {c.step: found.read(c) for c in found.checkpoints}


def weights(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "in.weight": torch.randn(4, 2, generator=generator),
        "in.bias": torch.randn(4, generator=generator),
        "num_batches": torch.tensor(seed),
    }


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=0, atol=0)


def write_two(folder: Path, second: dict[str, Tensor]) -> Path:
    """Write step 5 as usual and step 10 as given."""
    save_file(weights(5), folder / "model-5.safetensors")
    save_file(second, folder / "model-10.safetensors")
    return folder


def tiny_unet(seed: int) -> Any:
    from diffusers import UNet2DModel

    torch.manual_seed(seed)
    return UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=4,
    )


def test_no_source_loads_as_none() -> None:
    assert ExternalCheckpointsDataset(source=None, **NOTHING).load() is None


def test_they_are_only_read() -> None:
    dataset: Any = ExternalCheckpointsDataset(source=None, **NOTHING)
    with pytest.raises(DatasetError, match="cannot be written"):
        dataset.save({})


def test_a_relative_source_is_relative_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_two(tmp_path, weights(10)))
    assert len(load(Path(".")).checkpoints) == 2


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_shard_size": "8KB"},
        {"safe_serialization": False},
        {"safe_serialization": False, "max_shard_size": "8KB"},
    ],
)
def test_a_diffusers_training_is_read_as_it_was_saved(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    expected = {}
    for step in (20, 100):
        unet, average = tiny_unet(step), tiny_unet(step + 1)
        expected[step] = {"raw": unet.state_dict(), "ema": average.state_dict()}
        unet.save_pretrained(tmp_path / f"checkpoint-{step}" / "unet", **options)
        average.save_pretrained(tmp_path / f"checkpoint-{step}" / "unet_ema", **options)
    for kind in ("raw", "ema"):
        found = load(tmp_path, kind=kind)
        sharded = "max_shard_size" in options
        assert (len(found.checkpoints[0].paths) > 2) == sharded
        for step, tensors in read_all(found).items():
            assert_same(tensors, expected[step][kind])


def test_lora_adapters_are_read(tmp_path: Path) -> None:
    key = "unet.mid_block.attentions.0.to_q.lora"
    expected = {
        n: {
            f"{key}_A.weight": torch.full((2, 4), n),
            f"{key}_B.weight": torch.ones(4, 2),
        }
        for n in (5.0, 10.0)
    }
    for step, tensors in expected.items():
        folder = tmp_path / f"checkpoint-{step:.0f}"
        folder.mkdir()
        save_file(tensors, folder / "pytorch_lora_weights.safetensors")
    for step, tensors in read_all(load(tmp_path)).items():
        assert_same(tensors, expected[step])


def test_a_flat_folder_of_torch_files_is_read(tmp_path: Path) -> None:
    for step in (5, 10):
        wrapped = {f"module.{name}": t for name, t in weights(step).items()}
        torch.save({"model": wrapped, "step": step}, tmp_path / f"ckpt_{step}.pt")
    found = load(tmp_path, entry="model", strip_prefix="module.")
    for step, tensors in read_all(found).items():
        assert_same(tensors, weights(step))


def test_the_number_of_bytes_is_that_of_float32_tensors(tmp_path: Path) -> None:
    for step in (5, 10):
        half = {name: t.half() for name, t in weights(step).items()}
        save_file({**half, "n": torch.tensor(1)}, tmp_path / f"m-{step}.safetensors")
    assert load(tmp_path).num_bytes == 4 * (8 + 4 + 1) + 8


def test_another_precision_is_no_other_network(tmp_path: Path) -> None:
    second = weights(10)
    second["in.bias"] = second["in.bias"].bfloat16()
    found = load(write_two(tmp_path, second))
    assert read_all(found)[10]["in.bias"].dtype == torch.float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in.bias": None}, r"'in\.bias' is missing and not float32 \(4,\)"),
        ({"new": torch.zeros(2)}, r"'new' is float32 \(2,\) and not missing"),
        (
            {"in.bias": torch.zeros(5)},
            r"'in\.bias' is float32 \(5,\) and not float32 \(4",
        ),
        (
            {"num_batches": torch.tensor(1.0)},
            r"'num_batches' is float32 \(\) and not int64",
        ),
    ],
)
def test_another_network_is_refused_with_the_tensor(
    tmp_path: Path, changes: dict[str, Tensor | None], message: str
) -> None:
    second = {**weights(10), **changes}
    found = load(
        write_two(tmp_path, {k: v for k, v in second.items() if v is not None})
    )
    assert_same(found.read(found.checkpoints[0]), weights(5))
    network = r"model-10\.safetensors is of another network than model-5\.safetensors: "
    with pytest.raises(DataError, match=f"{network}tensor {message}"):
        found.read(found.checkpoints[1])


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    second = {**weights(10), "in.bias": torch.tensor([0, 0, float("nan"), 0])}
    found = load(write_two(tmp_path, second))
    with pytest.raises(
        DataError, match=r"model-10\.safetensors: tensor 'in\.bias' has"
    ):
        found.read(found.checkpoints[1])


def test_a_fault_of_the_folder_is_told_on_loading(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no checkpoint") as caught:
        load(tmp_path)
    assert isinstance(caught.value.__cause__, DataError)


def test_the_origin_changes_with_the_file_and_with_the_selection(
    tmp_path: Path,
) -> None:
    found = load(write_two(tmp_path, weights(10)))
    before = found.origin(found.checkpoints[0])
    path = found.checkpoints[0].paths[0]
    assert before["file"] == "model-5.safetensors"
    assert before["bytes"] == path.stat().st_size
    assert before["modified"] == path.stat().st_mtime_ns
    chosen = load(tmp_path, names="in")
    assert chosen.origin(chosen.checkpoints[0]) == {**before, "names": "in"}
    save_file(weights(6), path)
    assert found.origin(found.checkpoints[0]) != before
