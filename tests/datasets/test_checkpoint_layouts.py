"""Folders of other trainers: which files are checkpoints, and their steps."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lct_pipeline.datasets.checkpoint_layouts import (
    ExternalCheckpoint,
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


def names(found: tuple[ExternalCheckpoint, ...]) -> dict[int, str]:
    return {checkpoint.step: checkpoint.name for checkpoint in found}


@pytest.mark.parametrize("network", ["unet", "transformer", "prior"])
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_diffusers_checkpoints_are_found_and_sorted_by_step(
    tmp_path: Path, network: str, suffix: str
) -> None:
    files = {
        step: f"checkpoint-{step}/{network}/{MODEL}.{suffix}" for step in (500, 1000)
    }
    touch(tmp_path, *files.values(), "checkpoint-500/optimizer.bin")
    found = find(tmp_path)
    assert list(names(found).items()) == list(files.items())
    assert found[0].paths == (tmp_path / files[500],)
    assert found[0].kind == "raw"


def test_the_kind_chooses_between_raw_weights_and_averages(tmp_path: Path) -> None:
    raw = {step: f"checkpoint-{step}/unet/{MODEL}.safetensors" for step in (5, 10)}
    ema = {step: f"checkpoint-{step}/unet_ema/{MODEL}.safetensors" for step in (5, 10)}
    touch(tmp_path, *raw.values(), *ema.values())
    assert names(find(tmp_path)) == raw
    assert names(find(tmp_path, kind="ema")) == ema
    assert {checkpoint.kind for checkpoint in find(tmp_path, kind="ema")} == {"ema"}


def test_shards_belong_to_their_index(tmp_path: Path) -> None:
    for step in (5, 10):
        shards = [f"{MODEL}-0000{n}-of-00002.safetensors" for n in (1, 2)]
        touch(tmp_path, *(f"checkpoint-{step}/unet/{shard}" for shard in shards))
        index = tmp_path / f"checkpoint-{step}/unet/{MODEL}.safetensors.index.json"
        weight_map = {"a": shards[1], "b": shards[0], "c": shards[1]}
        index.write_text(json.dumps({"weight_map": weight_map}))
    found = find(tmp_path)
    assert names(found)[5] == f"checkpoint-5/unet/{MODEL}.safetensors.index.json"
    assert [path.name for path in found[0].paths[1:]] == shards


def test_lora_checkpoints_are_found(tmp_path: Path) -> None:
    files = {n: f"checkpoint-{n}/pytorch_lora_weights.safetensors" for n in (5, 10)}
    touch(tmp_path, *files.values(), "pytorch_lora_weights.safetensors")
    assert names(find(tmp_path)) == files


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "pth", "ckpt", "bin"])
def test_flat_files_have_their_step_last(tmp_path: Path, suffix: str) -> None:
    files = [f"v2-epoch=3-step=9000.{suffix}", f"v2-epoch=12-step=36000.{suffix}"]
    touch(tmp_path, *files, f"last.{suffix}", f".tmp-7.{suffix}", "log-3.txt")
    assert names(find(tmp_path)) == dict(zip((9000, 36000), files, strict=True))


def test_a_pattern_gives_any_other_layout(tmp_path: Path) -> None:
    touch(tmp_path, "a/iter_20/net.pkl", "a/iter_100/net.pkl", "a/iter_100/other.pkl")
    found = names(find(tmp_path, pattern="a/*/net.pkl"))
    assert found == {20: "a/iter_20/net.pkl", 100: "a/iter_100/net.pkl"}


def test_the_step_is_the_first_group_of_the_expression(tmp_path: Path) -> None:
    touch(tmp_path, "step-3/unet2.pt", "step-5/unet2.pt")
    found = find(tmp_path, pattern="*/*.pt", step=r"step-(\d+)/unet(\d)")
    assert names(found) == {3: "step-3/unet2.pt", 5: "step-5/unet2.pt"}


def test_a_step_expression_alone_reads_a_known_layout(tmp_path: Path) -> None:
    touch(tmp_path, "s1_loss0.2.pt", "s4_loss0.1.pt")
    assert set(names(find(tmp_path, step=r"s(\d+)_"))) == {1, 4}


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "file")
    for name in ("nowhere", "file"):
        message = rf"cataloging\.source='.*{name}' is not a folder\. Give the folder"
        with pytest.raises(DataError, match=message):
            find(tmp_path / name)


@pytest.mark.parametrize(
    ("kind", "layouts"),
    [
        (
            "raw",
            [
                "checkpoint-<step>/{unet,transformer,prior}/diffusion_pytorch_model.*",
                "checkpoint-<step>/pytorch_lora_weights.*",
                "*.safetensors, *.pt, *.pth, *.ckpt, *.bin with a number in the name",
            ],
        ),
        (
            "ema",
            [
                "checkpoint-<step>/{unet,transformer,prior}_ema/diffusion_pytorch_model.*"
            ],
        ),
    ],
)
def test_without_a_checkpoint_the_known_layouts_are_told(
    tmp_path: Path, kind: Kind, layouts: list[str]
) -> None:
    touch(tmp_path, "last.pt", "weights/step-3.pt")
    with pytest.raises(DataError, match="holds no checkpoint of a known") as caught:
        find(tmp_path, kind=kind)
    assert f"cataloging.kind={kind}: {'; '.join(layouts)}. For" in str(caught.value)
    assert "give cataloging.pattern" in str(caught.value)


def test_a_pattern_that_matches_nothing_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "step-3.pt")
    with pytest.raises(
        DataError, match=r"pattern='a/\*\.pt' matches no file in .*glob"
    ):
        find(tmp_path, pattern="a/*.pt")


@pytest.mark.parametrize("pattern", ["/absolute/*.pt", ""])
def test_a_pattern_that_is_no_relative_glob_is_refused(
    tmp_path: Path, pattern: str
) -> None:
    with pytest.raises(
        DataError, match=f"cataloging.pattern='{pattern}'".replace("*", ".")
    ):
        find(tmp_path, pattern=pattern)


@pytest.mark.parametrize("step", [None, r"step-(\d+)", "(l.st)", r"(\d+)?last"])
def test_a_step_that_cannot_be_read_is_refused_with_the_file(
    tmp_path: Path, step: str | None
) -> None:
    touch(tmp_path, "a/last.pt")
    message = r"the step of 'a/last\.pt' cannot be read: .*, such as cataloging\.step="
    with pytest.raises(DataError, match=message):
        find(tmp_path, pattern="*/*.pt", step=step)


def test_two_files_of_one_step_are_both_named(tmp_path: Path) -> None:
    touch(tmp_path, "model-5.pt", "ema-5.pt", "model-10.pt")
    message = r"ema-5\.pt and model-5\.pt .* both have step 5\. .*cataloging\.pattern"
    with pytest.raises(DataError, match=message):
        find(tmp_path)
    assert set(names(find(tmp_path, pattern="model-*"))) == {5, 10}


def test_one_checkpoint_alone_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "model-5.pt")
    message = r"only one checkpoint \(model-5\.pt\): .* at least two"
    with pytest.raises(DataError, match=message):
        find(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"weight_map": [1]}', "{"])
def test_a_damaged_index_of_shards_is_named(tmp_path: Path, content: str) -> None:
    name = f"checkpoint-5/unet/{MODEL}.bin.index.json"
    touch(tmp_path, name)
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=rf"{re.escape(name)} cannot be read"):
        find(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    name = f"checkpoint-5/unet/{MODEL}.bin.index.json"
    touch(tmp_path, name)
    (tmp_path / name).write_text('{"weight_map": {"a": "part-2.bin"}}')
    message = rf"{re.escape(name)} lists part-2\.bin, which is not there"
    with pytest.raises(DataError, match=message):
        find(tmp_path)
