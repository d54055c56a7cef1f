"""The code in the documentation does what it says."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[1]


def block(page: str, first_line: str) -> str:
    """Return the code block of a page that begins with a line."""
    text = (ROOT / "docs" / page).read_text()
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
