"""A network's weights as one vector, so that what is done to all of them is one operation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FlatWeights:
    """The parameters of a network as views of one vector, and their gradients of another.

    A step of an optimiser, a norm or an average is then a pass over memory, on a CPU and on a GPU,
    where hundreds of tensors would each cost a call. Parameters that are not trained come last.

    Args:
        network: Already on its device, all parameters of one type; they are moved into the vector
            and have to stay there: values are copied into them, never replaced.

    Attributes:
        vector: All N weights, ``(N,)``.
        gradient: Those of the n trained ones, ``(n,)``, 0 at first; backward passes add to it.
        shapes: Shapes of the trained parameters, in the network's order.
    """

    def __init__(self, network: nn.Module) -> None:
        parameters = dict(network.named_parameters())
        trained = {n: p for n, p in parameters.items() if p.requires_grad}
        self._ordered = trained | parameters
        every = self._ordered.values()
        self.vector = torch.cat([p.detach().flatten() for p in every])
        self.shapes = [p.shape for p in trained.values()]
        self.gradient = torch.zeros_like(
            self.vector[: sum(p.numel() for p in trained.values())]
        )
        for name, values in self.views(self.vector).items():
            parameters[name].data = values
        gradients = parts(self.gradient, self.shapes)
        for parameter, values in zip(trained.values(), gradients, strict=True):
            parameter.grad = values

    @property
    def trained(self) -> Tensor:
        """The weights that have a gradient, ``(n,)``."""
        return self.vector[: len(self.gradient)]

    def views(self, vector: Tensor) -> dict[str, Tensor]:
        """Return what belongs to each parameter, by name, in a vector of N values."""
        shapes = [p.shape for p in self._ordered.values()]
        return dict(zip(self._ordered, parts(vector, shapes), strict=True))


def parts(vector: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    """Return consecutive parts of a vector in their shapes; they share its memory."""
    pieces = vector.split([shape.numel() for shape in shapes])
    return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]
