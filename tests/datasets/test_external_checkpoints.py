"""Checkpoints of other trainers: which files of a folder they are, and their agreement."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from kedro.io import DatasetError
from safetensors.torch import save_file
from torch import Tensor

from lct_pipeline.datasets.external_checkpoints import (
    LAYOUTS,
    ExternalCheckpoint,
    ExternalCheckpoints,
    ExternalCheckpointsDataset,
    Kind,
    find_checkpoints,
)
from lct_pipeline.errors import DataError

MODEL = "diffusion_pytorch_model"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def find(
    folder: Path,
    pattern: str | None = None,
    step: str | None = None,
    kind: Kind = "raw",
) -> tuple[ExternalCheckpoint, ...]:
    return find_checkpoints(folder, pattern, step, kind)


def names(found: tuple[ExternalCheckpoint, ...]) -> list[tuple[int, str]]:
    return [(checkpoint.step, checkpoint.name) for checkpoint in found]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("checkpoint-{}/unet/" + MODEL + ".safetensors", "raw"),
        ("checkpoint-{}/transformer/" + MODEL + ".bin", "raw"),
        ("checkpoint-{}/prior/" + MODEL + ".safetensors", "raw"),
        ("checkpoint-{}/unet_ema/" + MODEL + ".safetensors", "ema"),
        ("checkpoint-{}/pytorch_lora_weights.safetensors", "raw"),
        ("checkpoint-{}/pytorch_lora_weights.bin", "raw"),
        ("v2-epoch=12-step={}.safetensors", "raw"),
        ("{}.pt", "raw"),
        ("ckpt_{}.pth", "raw"),
        ("model-{}-last.ckpt", "raw"),
        ("model{}.bin", "raw"),
        ("epoch={}-val_loss=0.{}1.ckpt", "raw"),
        ("checkpoint_{}/model.safetensors", "raw"),
        ("checkpoints/checkpoint_{}/pytorch_model.bin", "raw"),
        ("checkpoint-{}/model.safetensors.index.json", "raw"),
        ("checkpoint-{}/unet/adapter_model.safetensors", "raw"),
    ],
)
def test_checkpoints_of_known_layouts_are_found_and_sorted_by_step(
    tmp_path: Path, name: str, kind: Kind
) -> None:
    files = [(step, name.format(step, 20 - step)) for step in (5, 10)]
    others = ["checkpoint-5/optimizer.bin", "last.pt", ".tmp-7.pt", "log-3.txt"]
    others += [".hidden/8.pt", f"checkpoint-7/unet_old/{MODEL}.bin", "opt_12.pt"]
    others += [f"checkpoint-7/{n}" for n in ("scheduler.bin", "random_states_0.pkl")]
    touch(tmp_path, *(file for _, file in files), *others)
    for file in tmp_path.rglob("*.index.json"):
        file.write_text('{"weight_map": {}}')
    found = find(tmp_path, kind=kind)
    assert names(found) == files
    assert found[0].paths == (tmp_path / files[0][1],)
    assert found[0].kind == kind


def test_the_first_layout_that_a_folder_has_is_taken(tmp_path: Path) -> None:
    layouts = [
        "checkpoint-{}/unet/" + MODEL + ".safetensors",
        "checkpoint-{}/pytorch_lora_weights.safetensors",
        "step-{}.pt",
    ]
    for layout in reversed(layouts):
        files = [(step, layout.format(step)) for step in (5, 10)]
        touch(tmp_path, *(name for _, name in files))
        assert names(find(tmp_path)) == files


def test_an_index_of_shards_is_a_checkpoint_with_its_shards(tmp_path: Path) -> None:
    shards = [f"{MODEL}-0000{n}-of-00002.safetensors" for n in (1, 2)]
    for step in (5, 10):
        touch(tmp_path, *(f"checkpoint-{step}/unet/{shard}" for shard in shards))
        index = tmp_path / f"checkpoint-{step}/unet/{MODEL}.safetensors.index.json"
        weight_map = {"a": shards[1], "b": shards[0], "c": shards[1]}
        index.write_text(json.dumps({"weight_map": weight_map}))
    found = find(tmp_path)
    assert names(found)[0] == (5, f"checkpoint-5/unet/{index.name}")
    assert [path.name for path in found[0].paths[1:]] == shards


def test_a_pattern_and_a_step_expression_give_any_other_layout(tmp_path: Path) -> None:
    touch(tmp_path, "a/iter_20/net2.pkl", "a/iter_100/net2.pkl", "a/iter_100/other.pkl")
    touch(tmp_path, "s1_loss0.2.pt", "s4_loss0.1.pt", "b-3.pkl", "b-12.pkl")
    assert names(find(tmp_path, "*.pkl")) == [(3, "b-3.pkl"), (12, "b-12.pkl")]
    expected = [(20, "a/iter_20/net2.pkl"), (100, "a/iter_100/net2.pkl")]
    assert names(find(tmp_path, "a/*/net?.pkl", r"iter_(\d+)/net(\d)")) == expected
    of_known = names(find(tmp_path, step=r"s(\d+)_"))
    assert of_known == [(1, "s1_loss0.2.pt"), (4, "s4_loss0.1.pt")]


@pytest.mark.parametrize("kind", ["raw", "ema"])
def test_without_a_checkpoint_the_known_layouts_are_told(
    tmp_path: Path, kind: Kind
) -> None:
    touch(tmp_path, "last.pt", "weights/step-3.pt")
    with pytest.raises(DataError, match="holds no checkpoint of a known") as caught:
        find(tmp_path, kind=kind)
    assert f"cataloging.kind={kind}: {'; '.join(LAYOUTS[kind])}. For" in str(
        caught.value
    )
    assert "give cataloging.pattern" in str(caught.value)


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ("5.pt", {"pattern": "a/*.pt"}, r"pattern='a/\*\.pt' matches no file in .*glob"),
        ("5.pt", {"pattern": "/absolute/*.pt"}, r"cataloging\.pattern='/absolute"),
        ("5.pt", {"pattern": ""}, r"cataloging\.pattern=''"),
        ("a/last.pt", {"pattern": "*/*.pt"}, r"the step of 'a/last\.pt' cannot be read"),
        ("a/last.pt", {"pattern": "*/*.pt", "step": "(l.st)"}, r"read by cat.*\(l\.st\).*such as"),
        ("a/last.pt", {"pattern": "*/*.pt", "step": r"(\d+)?last"}, r"read by cataloging\.step="),
        ("1_2.pt 3_4.pt", {"step": "7_(.*)"}, r"'1_2\.pt' cannot be read by cataloging"),
        ("1_2.pt 3_4.pt", {}, r"'1_2\.pt' may be 1 or 2 .*'3_4\.pt'.*cataloging\.step=s"),
        ("a-5.pt a-10.pt a.pt", {}, r"'a\.pt' cannot be read from its name; .* a-10\.pt, a-5"),
        (
            "model-5.pt ema-5.pt model-10.pt",
            {},
            r"ema-5\.pt and model-5\.pt .* both have step 5\. .*cataloging\.pattern",
        ),
        ("model-5.pt", {}, r"only one checkpoint \(model-5\.pt\): .* at least two"),
    ],
    ids=range(11),
)  # fmt: skip
def test_what_is_wrong_with_a_folder_is_told(
    tmp_path: Path, files: str, options: dict[str, str], message: str
) -> None:
    touch(tmp_path, *files.split())
    with pytest.raises(DataError, match=message):
        find(tmp_path, **options)
    with pytest.raises(
        DataError, match=r"cataloging\.source='.*5' is not a folder\. G"
    ):
        find(tmp_path / "5")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"weight_map": [1]}', "cannot be read"),
        (
            '{"weight_map": {"a": "part-2.bin"}}',
            r"lists part-2\.bin, which is not there",
        ),
    ],
)
def test_a_damaged_index_of_shards_is_named(
    tmp_path: Path, content: str, fault: str
) -> None:
    name = f"checkpoint-5/unet/{MODEL}.bin.index.json"
    touch(tmp_path, name)
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=rf"{re.escape(name)} {fault}"):
        find(tmp_path)


NOTHING: dict[str, Any] = dict.fromkeys(
    ("pattern", "step", "entry", "names", "strip_prefix")
)


def load(folder: Path | None, **changes: Any) -> Any:
    options = {**NOTHING, "kind": "raw", **changes}
    source = None if folder is None else str(folder)
    return ExternalCheckpointsDataset(source=source, **options).load()


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


def test_the_dataset_only_reads_a_folder_that_may_be_relative_to_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load(None) is None
    with pytest.raises(DatasetError, match="holds no checkpoint") as caught:
        load(tmp_path)
    assert isinstance(caught.value.__cause__, DataError)
    monkeypatch.chdir(write_two(tmp_path, weights(10)))
    assert len(load(Path(".")).checkpoints) == 2
    dataset: Any = ExternalCheckpointsDataset(source=None, **NOTHING, kind="raw")
    with pytest.raises(DatasetError, match="cannot be written"):
        dataset.save({})


@pytest.mark.parametrize("safe_serialization", [True, False])
@pytest.mark.parametrize("max_shard_size", ["8KB", "1GB"])
def test_a_diffusers_training_is_read_as_it_was_saved(
    tmp_path: Path, safe_serialization: bool, max_shard_size: str
) -> None:
    expected = {}
    for step in (20, 100):
        for kind, name, unet in [
            ("raw", "unet", tiny_unet(step)),
            ("ema", "unet_ema", tiny_unet(step + 1)),
        ]:
            expected[step, kind] = unet.state_dict()
            unet.save_pretrained(
                tmp_path / f"checkpoint-{step}" / name,
                safe_serialization=safe_serialization,
                max_shard_size=max_shard_size,
            )
    for kind in ("raw", "ema"):
        found = load(tmp_path, kind=kind)
        assert (len(found.checkpoints[0].paths) > 2) == (max_shard_size == "8KB")
        for step, tensors in read_all(found).items():
            assert_same(tensors, expected[step, kind])


def test_a_flat_folder_of_torch_files_is_read(tmp_path: Path) -> None:
    for step in (5, 10):
        wrapped = {f"module.{name}": t for name, t in weights(step).items()}
        torch.save({"model": wrapped, "step": step}, tmp_path / f"ckpt_{step}.pt")
    found = load(tmp_path, entry="model", strip_prefix="module.")
    for step, tensors in read_all(found).items():
        assert_same(tensors, weights(step))


def test_another_precision_is_no_other_network_and_bytes_are_of_float32(
    tmp_path: Path,
) -> None:
    second = weights(10)
    second["in.bias"] = second["in.bias"].bfloat16()
    found = load(write_two(tmp_path, second))
    assert read_all(found)[10]["in.bias"].dtype == torch.float32
    assert found.num_bytes == 4 * (8 + 4) + 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in.bias": None}, r"'in\.bias' is missing, expected float32 \(4,\)"),
        ({"new": torch.zeros(2)}, r"'new' is float32 \(2,\), expected none"),
        ({"in.bias": torch.zeros(5)}, r"'in\.bias' is float32 \(5,\), expected float32"),
        ({"num_batches": torch.tensor(1.0)}, r"'num_batches' is float32 \(\), expected i"),
    ],
)  # fmt: skip
def test_another_network_is_refused_with_the_tensor(
    tmp_path: Path, changes: dict[str, Tensor | None], message: str
) -> None:
    second = {k: v for k, v in {**weights(10), **changes}.items() if v is not None}
    found = load(write_two(tmp_path, second))
    assert_same(found.read(found.checkpoints[0]), weights(5))
    network = r"model-10\.safetensors is of another network than the first checkpoint: "
    with pytest.raises(DataError, match=f"{network}tensor {message}"):
        found.read(found.checkpoints[1])


LORA = {"unet.lora_alpha": 16, "unet.r": 4, "unet.target_modules": ["to_q", "to_k"]}


def with_header(folder: Path, step: int, **said: Any) -> None:
    header = {
        name: v if isinstance(v, str) else json.dumps(v) for name, v in said.items()
    }
    save_file(weights(5), folder / f"model-{step}.safetensors", header)


@pytest.mark.parametrize(
    ("said", "difference"),
    [
        ({"lora": LORA, "ss_epoch": "2", "modelspec.date": "today"}, None),
        ({"lora": dict(reversed(LORA.items())), "ss_epoch": "3"}, None),
        ({"lora": {**LORA, "unet.target_modules": ["to_k", "to_q"]}}, None),
        ({"lora": {**LORA, "_name_or_path": "x", "peft_version": "1"}}, None),
        ({"lora": {**LORA, "unet.lora_alpha": 8}}, "lora.unet.lora_alpha: 16 -> 8"),
        ({"lora": {**LORA, "unet.use_rslora": True}}, "use_rslora: None -> True"),
        ({}, "lora.unet.lora_alpha: 16 -> None"),
        ({"lora": LORA, "ss_network_alpha": "1"}, "ss_network_alpha: None -> 1"),
    ],
)  # fmt: skip
def test_what_checkpoints_say_beside_their_tensors_has_to_be_the_same(
    tmp_path: Path, said: dict[str, Any], difference: str | None
) -> None:
    with_header(tmp_path, 5, lora=LORA, ss_epoch="1")
    with_header(tmp_path, 10, **said)
    found = load(tmp_path)
    assert json.loads(found.said(found.checkpoints[0])["lora"]) == LORA
    if difference is None:
        assert found.said(found.checkpoints[1]).keys() == said.keys()
        return
    with pytest.raises(DataError, match=r"model-10\.safetensors says") as caught:
        found.said(found.checkpoints[1])
    assert difference in str(caught.value)


def test_configurations_beside_the_file_are_said_too(tmp_path: Path) -> None:
    for step, alpha in [(5, 16), (10, 8)]:
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        save_file(weights(step), folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps({"lora_alpha": alpha}))
    found = load(tmp_path)
    said = found.said(found.checkpoints[0])
    assert said == {"adapter_config.json": '{"lora_alpha": 16}'}
    with pytest.raises(DataError, match=r"adapter_config\.json\.lora_alpha: 16 -> 8"):
        found.said(found.checkpoints[1])


def test_whole_numbers_that_differ_are_told_and_quantised_weights_refused(
    tmp_path: Path,
) -> None:
    codes = {"codes": torch.zeros(2, 2, dtype=torch.int8)}
    save_file({**weights(5), **codes}, tmp_path / "model-5.safetensors")
    save_file({**weights(10), **codes}, tmp_path / "model-10.safetensors")
    save_file(
        {**weights(5), "codes": codes["codes"] + 1}, tmp_path / "model-15.safetensors"
    )
    found = load(tmp_path)
    assert found.differing(found.read(found.checkpoints[1])) == {"num_batches"}
    with pytest.raises(
        DataError, match=r"model-15.*'codes' is torch\.int8 and differs"
    ):
        found.read(found.checkpoints[2])


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
