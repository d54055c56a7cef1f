"""What the documentation says of the code is so: its examples, functions, files, messages."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from conftest import ROOT
from test_boundaries import LAYERS

DOCS = ROOT / "docs"


def block(page: str, first_line: str) -> str:
    """Return the code block of a page that begins with a line."""
    text = (DOCS / page).read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    return next(code for code in blocks if code.startswith(first_line))


@pytest.fixture
def unet(tmp_path: Path) -> Any:
    """Save a tiny U-Net as diffusers' training script does."""
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    model = UNet2DModel(
        sample_size=8,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        layers_per_block=1,
        norm_num_groups=2,
    )
    model.save_pretrained(tmp_path / "checkpoint-1000" / "unet")
    return model


@pytest.fixture
def my_unet(tmp_path: Path, unet: Any) -> ModuleType:
    """Return the module of the example, with the folder and sizes of this test."""
    code = block("other_checkpoints.md", "# my_unet.py")
    settings = f'OUTPUT, BATCH, NUM_STEPS = "{tmp_path}", 2, 2'
    code, count = re.subn(r"OUTPUT, BATCH, NUM_STEPS = .*", settings, code)
    assert count == 1
    path = tmp_path / "my_unet.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location("my_unet", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_generates_with_the_weights_and_the_noise_it_is_given(
    my_unet: ModuleType, unet: Any
) -> None:
    batches = list(my_unet.generate(unet.state_dict(), num_images=5, seed=1))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert all(batch.dtype == torch.uint8 for batch in batches)
    assert batches[0].shape[1:] == (3, 8, 8)

    def images(seed: int, factor: int = 1) -> torch.Tensor:
        weights = {name: factor * value for name, value in unet.state_dict().items()}
        return torch.cat(list(my_unet.generate(weights, num_images=3, seed=seed)))

    assert torch.equal(images(1), images(1))
    assert not torch.equal(images(1), images(2))
    assert not torch.equal(images(1), images(1, factor=2))


def test_the_example_of_a_feature_extractor_gives_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import resnet18

    from lct_pipeline.models.features.extractors import build_extractor
    from lct_pipeline.parameters.evaluation import Extractor

    (tmp_path / "my_features.py").write_text(block("measuring.md", "# my_features.py"))
    torch.manual_seed(0)
    network = resnet18().eval()
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    kind, path = "my_features:resnet18_features", "resnet18.pth"
    described = Extractor(kind=kind, path=path, size=64, mean=mean, std=std)
    extractor = build_extractor(described, torch.device("cpu"))
    assert extractor.frechet_name == "resnet18_features_frechet_distance"
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    shift, scale = (torch.tensor(v).reshape(3, 1, 1) for v in (mean, std))
    network.fc = torch.nn.Identity()
    with torch.no_grad():
        expected = network((images / 255 - shift) / scale)
    torch.testing.assert_close(extractor.extract(images), expected)


def test_named_functions_exist() -> None:
    text = (DOCS / "formulas.md").read_text()
    names = re.findall(r"`((?:core|models)\.[\w.]+)`", text)
    assert len(names) > 40
    for name in names:
        module, _, function = name.rpartition(".")
        found = importlib.import_module(f"lct_pipeline.{module}")
        assert hasattr(found, function), name


def test_named_files_exist() -> None:
    for page in ("extending.md", "architecture.md"):
        names = re.findall(r"`([\w/]+(?:/|\.py|\.yml))`", (DOCS / page).read_text())
        assert names
        for name in names:
            places = (ROOT / name, ROOT / "src" / "lct_pipeline" / name)
            is_near = any((ROOT / "src").rglob(name)) if "/" not in name else False
            assert is_near or any(place.exists() for place in places), f"{page}: {name}"


def test_the_picture_has_all_layers_in_their_order() -> None:
    text = (DOCS / "architecture.md").read_text()
    drawing = text.partition("src/lct_pipeline/")[2].partition("```")[0]
    lines = [line for line in drawing.splitlines()[1:] if line.strip()]
    assert max(map(len, lines)) < 74  # the width of a page
    first = [line[3:].partition("   ")[0].split() for line in lines]
    shown = [name.strip("/") for names in first for name in names]
    assert shown == [name for name in reversed(LAYERS) if name != "__main__"]


def quoted_messages() -> list[str]:
    """Return the messages that the page quotes, but those of torch and of the system."""
    text = (DOCS / "troubleshooting.md").read_text()
    found = re.findall(r"^```text\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    others = ("torch.OutOfMemoryError", "Killed")
    return [message.strip() for message in found if not message.startswith(others)]


@cache
def texts_in_source() -> tuple[str, ...]:
    """Return the texts of the source, with a NUL for what is filled in."""
    texts = []
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (getattr(part, "value", None) for part in node.values)
                texts.append("".join(p if isinstance(p, str) else "\0" for p in parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return tuple(texts)


def is_in_source(line: str) -> bool:
    """Return whether the sentences of a message are what the source can say."""
    return any(
        all(_is_text(part) for part in parts)
        for parts in ([line.strip()], re.split(r"(?<=\.) ", line.strip()))
    )


def _is_text(sentence: str) -> bool:
    parts = re.split(r"('?<[^>]*>'?)", sentence)
    filled = (
        r"(?:\0|%s|%d|{})"  # an f-string's, a log message's, or the words themselves
    )
    expression = "".join(
        filled.replace("{}", re.escape(part)) if number % 2 else re.escape(part)
        for number, part in enumerate(parts)
    )
    return any(re.search(expression, text) for text in texts_in_source())


@pytest.mark.parametrize("message", quoted_messages(), ids=lambda text: text[:40])
def test_a_quoted_message_is_in_the_source(message: str) -> None:
    for line in message.splitlines():
        assert is_in_source(line), line


def test_a_message_that_nobody_gives_is_noticed() -> None:
    assert not is_in_source("ingestion.source='<source>' has gone away.")
    assert len(quoted_messages()) >= 25
