"""The centres of classes, each rank with a part, after PartialFC (arXiv 2203.15565). Letters: K classes, D width."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

INIT_STD = 0.01
BLOCK = 4096
"""Centres drawn from one seed: initial values do not depend on how many ranks share them."""


class ClassCentres(nn.Module):
    """`weight` [K / ranks, D] holds the centres of the classes from `first` on; the last rank may have fewer.

    Its gradient is sparse: only the rows of a step's classes. `RowAdamW` updates those alone.
    """

    def __init__(self, classes: int, width: int, *, group: dist.ProcessGroup | None = None, seed: int = 0) -> None:
        super().__init__()
        self.classes = classes
        self.group = group
        self.ranks = dist.get_world_size(group) if dist.is_initialized() else 1
        rank = dist.get_rank(group) if self.ranks > 1 else 0
        each = -(-classes // self.ranks)
        self.first = min(rank * each, classes)
        self.last = min(self.first + each, classes)
        self.weight = nn.Parameter(_initial(self.first, self.last, width, seed))

    def rows(self, classes: Tensor) -> Tensor:
        """Centres [n, D] of `classes` int64 [n], which are this rank's."""
        return nn.functional.embedding(classes - self.first, self.weight, sparse=True)

    def holds(self, classes: Tensor) -> Tensor:
        """Which of `classes` are this rank's, bool in their shape."""
        return (classes >= self.first) & (classes < self.last)


def _initial(first: int, last: int, width: int, seed: int) -> Tensor:
    blocks = []
    for block in range(first // BLOCK, -(-last // BLOCK)):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + block)
        blocks.append(torch.randn(BLOCK, width, generator=generator) * INIT_STD)
    drawn = torch.cat(blocks) if blocks else torch.zeros(0, width)
    start = first // BLOCK * BLOCK
    return drawn[first - start : last - start].clone()


class RowAdamW(torch.optim.Optimizer):
    """AdamW over the rows that a sparse gradient names; the others keep value and moments.

    A row's moments are corrected by how often that row was updated, so the first update of a centre that is drawn late
    is as long as that of any other.
    """

    def __init__(
        self,
        parameters: Any,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group)

    def _update(self, weight: nn.Parameter, group: dict[str, Any]) -> None:
        gradient = weight.grad.coalesce()
        rows, values = gradient.indices()[0], gradient.values()
        state = self.state[weight]
        if not state:
            state["mean"], state["square"] = torch.zeros_like(weight), torch.zeros_like(weight)
            state["updates"] = torch.zeros(len(weight), dtype=torch.int64, device=weight.device)
        first, second = group["betas"]
        updates = state["updates"][rows] + 1
        mean = state["mean"][rows].lerp(values, 1 - first)
        square = state["square"][rows].lerp(values.square(), 1 - second)
        state["updates"][rows], state["mean"][rows], state["square"][rows] = updates, mean, square
        count = updates.to(values.dtype).unsqueeze(1)
        size = (square / (1 - second**count)).sqrt() + group["eps"]
        kept = weight[rows] * (1 - group["lr"] * group["weight_decay"])
        weight[rows] = kept - group["lr"] * mean / (1 - first**count) / size
