"""A derivative by torch's own rules, for those that are written out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def by_autograd(formula: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the derivative of a formula's value by x."""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(formula(x), x)
    return gradient
