"""How fast images become latents, against the loop that one would write.

    python benchmarks/encoding_speed.py [--device cpu] [--images 8192] [--side 32]

Random images are written to a temporary folder as shards, through the project's own store, and
encoded by an autoencoder of random weights: the small one of recipe cifar10 on a CPU, one of Stable
Diffusion's size on a GPU. In this one run they are encoded by the project, from shards to shards,
each with its digest; and by a loop over the same shards that encodes one batch of 64 after the
other, appends what it gets to a list and saves that at the end. Both are run in turn, three times,
and the best of each counts.
"""

from __future__ import annotations

import argparse
import math
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from safetensors.torch import save_file

from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.shards import Shard, ShardsDataset, ShardStore, ShardStream
from lct_pipeline.models.autoencoder import automatic_precision, build_autoencoder
from lct_pipeline.models.device import choose_device
from lct_pipeline.parameters import Encoding, Runtime
from lct_pipeline.pipelines.encoding.nodes import encode_images

CONF = Path(__file__).parents[1] / "conf" / "base"
LOOP_BATCH = 64
SHARD_BYTES = 16 * 2**20  # ingestion.shard_mib of conf/base


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=int, help="default: 16,384; on a GPU 8,192")
    parser.add_argument("--side", type=int, help="default: 32; on a GPU 256")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="runtime.compile")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = choose_device(arguments.device)
    num = arguments.images or (8192 if device.type == "cuda" else 16_384)
    side = arguments.side or (256 if device.type == "cuda" else 32)
    with tempfile.TemporaryDirectory() as folder:
        images = write_images(Path(folder) / "images", num, side)
        autoencoder = random_autoencoder(device)
        ways: dict[str, Callable[[Path], None]] = {
            "loop": lambda out: loop(images, autoencoder, device, out),
            "this project": lambda out: encode(images, autoencoder, arguments, out),
        }
        table = measure(ways, Path(folder), num)
    weights = sum(p.numel() for p in autoencoder.parameters()) / 1e6
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    print(f"{num:,} images of {side} pixels, {len(images.shards)} shards of 16 MiB;")
    print(
        f"AutoencoderKL of {weights:.2f} M weights, the loop in float32, this project"
    )
    print(f"in {automatic_precision(device)}; {device.type} ({name}),")
    print(f"{arguments.threads} CPU threads, torch {torch.__version__}, ", end="")
    print(f"diffusers {version('diffusers')}\n")
    print(
        table.to_string(
            index=False,
            formatters={"images/s": "{:.0f}".format},
            float_format="{:.2f}".format,
        )
    )


def write_images(folder: Path, num: int, side: int) -> ShardStore:
    """Write shards of random images."""
    generator = torch.Generator().manual_seed(0)

    def shards() -> Iterator[Shard]:
        size = SHARD_BYTES // (3 * side**2)
        for start in range(0, num, size):
            shape = (min(size, num - start), 3, side, side)
            yield Shard(
                {"images": torch.randint(256, shape, generator=generator).byte()}
            )

    dataset = ShardsDataset(path=str(folder))
    dataset.save(ShardStream("random", shards()))
    return dataset.load()


def random_autoencoder(device: torch.device) -> Any:
    """Return an autoencoder of random weights, of the size that the device is for."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    if device.type != "cuda":
        small = build_autoencoder(
            "AutoencoderKL", block_channels=(8, 16, 32), latent_channels=4
        )
        return small.eval()
    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
    ).eval()


@torch.no_grad()
def loop(images: ShardStore, model: Any, device: torch.device, out: Path) -> None:
    """Encode one batch after the other, keep all and save it at the end."""
    model.to(device)
    means, stds = [], []
    for shard in images.shards:
        for batch in torch.from_numpy(shard.arrays["images"]).split(LOOP_BATCH):
            x = batch.to(device).float() / 127.5 - 1
            posterior = model.encode(x).latent_dist
            means.append(posterior.mean.cpu().contiguous())
            stds.append(posterior.std.cpu().contiguous())
    latents = {"mean": torch.cat(means), "std": torch.cat(stds)}
    save_file(latents, out.with_suffix(".safetensors"))


def encode(
    images: ShardStore, model: Any, arguments: argparse.Namespace, out: Path
) -> None:
    """Encode as the node and the catalog do."""
    dataset = ShardsDataset(path=str(out))
    changes = {"device": arguments.device, "compile": arguments.compile}
    stream = encode_images(
        images,
        StoredAutoencoder(model, "random"),
        dataset.load(),
        Encoding.model_validate(base("encoding")),
        Runtime.model_validate(base("runtime") | changes),
    )
    dataset.save(stream)


def base(stage: str) -> dict[str, Any]:
    """Return the parameters of ``conf/base``."""
    return yaml.safe_load((CONF / f"parameters_{stage}.yml").read_text())[stage]


def measure(
    ways: dict[str, Callable[[Path], None]], folder: Path, num: int
) -> pd.DataFrame:
    """Run the ways in turn, three times, and return the best of each."""
    seconds = dict.fromkeys(ways, math.inf)
    for attempt in range(3):
        for name, way in ways.items():
            start = time.perf_counter()
            way(folder / f"{name} {attempt}")
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return pd.DataFrame(
        {"way": name, "images/s": num / best, "ratio": seconds["loop"] / best}
        for name, best in seconds.items()
    )


if __name__ == "__main__":
    main()
