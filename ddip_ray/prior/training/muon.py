"""Muon: momentum whose every direction counts the same, for the weights of hidden layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_NUM_ITERATIONS = 5
_A, _B, _C = (
    3.4445,
    -4.7750,
    2.0315,
)  # the quintic that lifts singular values of 0.01 to about 1 in five times


class Muon(torch.optim.Optimizer):
    """Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks", for convolutions.

    A weight (out, in, ky, kx) is a matrix of ``out`` rows. `torch.optim.Muon` takes plain matrices only.
    Every step changes singular values by ``lr``, so without decay they grow for ever; with it, to its inverse
    at most (Liu et al. 2025, "Muon is scalable for LLM training", 2502.16982).
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float = 0.01,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every parameter by ``lr`` along its orthogonalised (Nesterov) momentum."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                average: Tensor = state["momentum"]
                average.lerp_(parameter.grad, 1 - group["momentum"])
                direction = parameter.grad.lerp(average, group["momentum"])
                update = orthogonalised(direction.reshape(len(parameter), -1))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(update.reshape(parameter.shape), alpha=group["lr"])


def orthogonalised(matrix: Tensor) -> Tensor:
    """A matrix (rows, columns) with the same singular vectors and singular values of about 1 (0.7 to 1.2).

    Newton-Schulz iterations on the smaller Gram matrix G of the normalised matrix X: each multiplies X from
    the left by P = a + b G + c G², and all P commute, so that X itself is multiplied once, at the end.
    """
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix
    x = x / x.norm().clamp_min(1e-12)
    gram = x @ x.T
    identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    product = identity
    for _ in range(_NUM_ITERATIONS):
        factor = torch.addmm(_A * identity + _B * gram, gram, gram, alpha=_C)
        product = factor @ product
        gram = factor @ gram @ factor
    x = product @ x
    result: Tensor = x.T if is_tall else x
    return result
