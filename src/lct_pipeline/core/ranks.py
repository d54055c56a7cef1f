"""One process among several that train one model together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Ranks:
    """This process's number, how many there are, and its device."""

    rank: int
    num_processes: int
    device: torch.device

    def part(self, batch_size: int) -> slice:
        """Return which samples of a batch this process takes; the parts differ by one at most."""
        start, stop = (
            batch_size * r // self.num_processes for r in (self.rank, self.rank + 1)
        )
        return slice(start, stop)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of ``values`` over all processes."""
        if self.num_processes > 1:
            distributed.all_reduce(values)
        return values

    def maximum(self, values: Tensor) -> Tensor:
        """Return the largest of ``values`` over all processes."""
        if self.num_processes > 1:
            distributed.all_reduce(values, distributed.ReduceOp.MAX)
        return values
