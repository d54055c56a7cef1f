"""The ResNet-56 for CIFAR-10 (He et al. 2016, section 4.2), whose features measure 32x32 images.

An example of a feature extractor by import path:

    features.extractor:
      kind: benchmarks.resnet56:resnet56
      path: resnet56-4bfd9763.th
      mean: [0.485, 0.456, 0.406]
      std: [0.229, 0.224, 0.225]

The file is one of akamaster/pytorch_resnet_cifar10 (BSD-2-Clause), which was trained on images
normalised so. Its Frechet distance is never called FID.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NUM_BLOCKS = 9  # at each of three widths: 6 * 9 + 2 layers
WIDTHS = (16, 32, 64)


class Block(nn.Module):
    """Two convolutions and a shortcut without weights (option A).

    Where the image shrinks, the shortcut takes every second pixel of every second row, and has
    zeros as its new channels, half of them before the old ones.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.stride, self.num_zeros = c_out // c_in, (c_out - c_in) // 2
        self.conv1 = nn.Conv2d(
            c_in, c_out, 3, stride=self.stride, padding=1, bias=False
        )
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps ``(B, c_out, H / stride, W / stride)``."""
        shortcut = x[:, :, :: self.stride, :: self.stride]
        shortcut = F.pad(shortcut, (0, 0, 0, 0, self.num_zeros, self.num_zeros))
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet(nn.Module):
    """Gives the 64 features before the last layer; ``linear`` makes logits of them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(
                Block(c_in, c_out),
                *(Block(c_out, c_out) for _ in range(NUM_BLOCKS - 1)),
            )
            for c_in, c_out in zip((WIDTHS[0], *WIDTHS), WIDTHS, strict=False)
        )
        self.linear = nn.Linear(WIDTHS[-1], 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return features ``(B, 64)`` of normalised images ``(B, 3, 32, 32)``."""
        x = F.relu(self.bn1(self.conv1(images)))
        return self.layer3(self.layer2(self.layer1(x))).mean((2, 3))


def resnet56(path: str) -> nn.Module:
    """Return the network with the weights of a file, whose names begin with ``module.``."""
    tensors = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    network = ResNet()
    network.load_state_dict({k.removeprefix("module."): v for k, v in tensors.items()})
    return network
