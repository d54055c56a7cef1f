"""The one-step generator in onnxruntime."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from exporting import MODELS as EXPORTED
from exporting import ONE_STEP, SmallModel

from lct_pipeline.errors import DataError, ParameterError
from lct_pipeline.export import onnx_file
from lct_pipeline.export.onnx_file import check_onnx, write_onnx
from lct_pipeline.models.autoencoder import PixelAutoencoder

TOLERANCE = 1e-3


def of_pixels(model: SmallModel) -> SmallModel:
    """Return a model without the decoder, whose export takes longer than the network's."""
    network = replace(model.network, sample_shape=(3, 8, 8))
    return replace(model, network=network, autoencoder=PixelAutoencoder())


MODELS = {
    "unet": EXPORTED["unet"],
    "dit": of_pixels(EXPORTED["dit"]),
    "classes": of_pixels(EXPORTED["classes"]),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return an ONNX file of each kind of network; that of the DiT has its weights beside it."""
    folder = tmp_path_factory.mktemp("onnx")
    found = {name: folder / f"{name}.onnx" for name in ("unet", "dit", "classes")}
    for name, path in found.items():
        with pytest.MonkeyPatch.context() as patch:
            if name == "dit":
                patch.setattr(onnx_file, "MAX_BYTES", 1000)
            write_onnx(MODELS[name].pipeline(), path)
    return found


@pytest.mark.parametrize("name", ["unet", "dit", "classes"])
def test_onnxruntime_makes_the_same_images_of_any_batch(
    name: str, files: dict[str, Path]
) -> None:
    import onnxruntime

    model, session = MODELS[name], onnxruntime.InferenceSession(files[name])
    inputs = model.inputs(ONE_STEP)
    rounded = model.expected(ONE_STEP).float() / 127.5 - 1
    for part in (slice(0, 1), slice(0, 5)):
        noise, labels = inputs["latents"][0, part], inputs["class_labels"]
        feed = {"noise": noise.numpy()}
        if labels is not None:
            feed["labels"] = labels[part].numpy()
        images = torch.from_numpy(session.run(["images"], feed)[0])
        assert images.dtype == torch.float32
        exact = model.pipeline()(
            latents=noise,
            class_labels=None if labels is None else labels[part],
            output_type="pt",
        ).images
        assert exact.std() > 0.05
        assert torch.allclose(images, 2 * exact - 1, atol=TOLERANCE)
        assert torch.allclose(images, rounded[part], atol=0.5 / 127.5 + TOLERANCE)


def test_weights_too_large_for_one_file_lie_beside_it(files: dict[str, Path]) -> None:
    beside = {name: path.with_name(f"{name}.onnx.data") for name, path in files.items()}
    assert [name for name, path in beside.items() if path.exists()] == ["dit"]


def test_the_file_has_no_trace_of_this_machine(files: dict[str, Path]) -> None:
    for path in files.values():
        assert str(Path(__file__).parents[2]).encode() not in path.read_bytes()
        assert b"site-packages" not in path.read_bytes()


def test_a_diffusion_model_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"export\.onnx=false"):
        check_onnx("diffusion")


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"onnx and onnxscript: pip install .*\[onnx\]"):
        check_onnx("consistency")


def test_the_example_of_the_documentation_runs(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (example,) = [block for block in blocks if "onnxruntime" in block]
    (tmp_path / "export").mkdir()
    shutil.copy(files["unet"], tmp_path / "export" / "generator.onnx")
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    assert (tmp_path / "image.png").exists()
