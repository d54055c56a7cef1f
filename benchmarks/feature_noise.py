"""How far real images are from real ones, and from themselves with noise, by a ResNet-56.

    python benchmarks/feature_noise.py --source cifar10_jpg.zip --weights resnet56-4bfd9763.th

Images of the zip's test split (CIFAR-10 as 32x32 JPEG files) are compared with as many others, and
with themselves after Gaussian noise, rounded to 8 bits again, by the features of a network that is
given by import path: that of benchmarks/resnet56.py. Beside stands what others measured with the
same weights and as many images of that zip.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from lct_pipeline.core.metrics.frechet import FrechetReference, feature_statistics
from lct_pipeline.core.sample_quality import features_of
from lct_pipeline.models.device import choose_device
from lct_pipeline.models.features.base import FeatureExtractor
from lct_pipeline.models.features.extractors import build_extractor
from lct_pipeline.parameters.evaluation import Extractor

KIND = "benchmarks.resnet56:resnet56"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 200
OTHERS = {
    0.0: 0.10,
    0.02: 2.3,
    0.05: 13.0,
    0.1: 32.1,
}  # by the noise's standard deviation


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="the zip")
    parser.add_argument("--weights", required=True, help="resnet56-4bfd9763.th")
    parser.add_argument("--images", type=int, default=4000, help="of each side")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the choice and the noise"
    )
    arguments = parser.parse_args()
    device = choose_device("auto")
    described = Extractor(kind=KIND, path=arguments.weights, mean=MEAN, std=STD)
    extractor = build_extractor(described, device)
    real, other = read_images(arguments.source, arguments.images, arguments.seed)
    table = measure(extractor, real, other, arguments.seed)
    print(
        f"{extractor.frechet_name}, {len(real):,} images against {len(other):,}; resizing and "
        f"normalisation: {extractor.resize}; weights {extractor.digest[:8]}\n"
    )
    print(table.to_string(index=False, float_format="{:.2f}".format))


def read_images(source: Path, num_images: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return two disjoint random sets of uint8 images, ``(N, 3, 32, 32)`` each."""
    with zipfile.ZipFile(source) as archive:
        names = sorted(n for n in archive.namelist() if n.startswith("test/"))
        names = [name for name in names if name.endswith(".jpg")]
        order = np.random.default_rng(seed).permutation(len(names))[: 2 * num_images]
        images = [
            np.asarray(Image.open(io.BytesIO(archive.read(names[i])))) for i in order
        ]
    both = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return both[:num_images], both[num_images:]


def measure(
    extractor: FeatureExtractor, real: Tensor, other: Tensor, seed: int
) -> pd.DataFrame:
    """Return the distances from ``real``, of other images and of its own with noise."""
    statistics = feature_statistics(features_of(real.split(BATCH), extractor.extract))
    reference = FrechetReference(statistics)
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for deviation, theirs in OTHERS.items():
        images = with_noise(real, deviation, generator) if deviation else other
        features = features_of(images.split(BATCH), extractor.extract)
        title = f"noise of std {deviation}" if deviation else "other real images"
        distance = reference.distance_of_features(features)
        rows.append({"compared with": title, "distance": distance, "others": theirs})
    return pd.DataFrame(rows)


def with_noise(images: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Return uint8 images with Gaussian noise, whose deviation is given for values in [0, 1]."""
    noise = 255 * deviation * torch.randn(images.shape, generator=generator)
    return (images + noise).round().clamp(0, 255).byte()


if __name__ == "__main__":
    main()
