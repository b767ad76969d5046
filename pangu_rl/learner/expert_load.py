"""Where a mixture's tokens went: the routes of every layer's experts -> **counts** -> metrics of a step.

Letters: L layers with experts, E experts of a layer, T tokens, K experts of a token.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class ExpertLoad:
    """Counts the tokens of every expert from one `take` to the next; every pass through a layer counts."""

    def __init__(self, model: nn.Module) -> None:
        """Watch all layers of `model` whose experts transformers holds in one module."""
        layers = [module for module in model.modules() if _is_mixture(module)]
        self._counts = [torch.zeros(layer.num_experts, dtype=torch.int64) for layer in layers]
        for index, layer in enumerate(layers):
            layer.register_forward_pre_hook(self._counting(index), with_kwargs=True)

    def reset(self) -> None:
        for counts in self._counts:
            counts.zero_()

    def take(self, ranks: int) -> dict[str, float]:
        """Of all ranks of the default group; empty of a model without experts. Collective."""
        if not self._counts:
            return {}
        layers = [counts.clone() for counts in self._counts]
        self.reset()
        if ranks > 1:
            for counts in layers:
                dist.all_reduce(counts)
        return load_metrics(layers)

    def _counting(self, index: int) -> Any:
        def count(layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            routes = kwargs["top_k_index"] if "top_k_index" in kwargs else args[1]
            counts = self._counts[index] = self._counts[index].to(routes.device)
            # Beyond the last expert stand routes that are none.
            counts += torch.bincount(routes.detach().flatten(), minlength=len(counts))[: len(counts)]

        return count


def load_metrics(layers: list[Tensor]) -> dict[str, float]:
    """Of L times int64 [E], tokens by expert.

    `expert_share_max` and `expert_share_min`: the largest and the least share of a layer's routes that an expert has.
    `expert_load_max`: tokens of the busiest expert over the mean of its layer's, in the layer where that is most; 1 is
    even, E is one expert for all.
    """
    shares = [counts / counts.sum().clamp(min=1) for counts in layers]
    return {
        "expert_share_max": max(share.max().item() for share in shares),
        "expert_share_min": min(share.min().item() for share in shares),
        "expert_load_max": max(share.max().item() * len(share) for share in shares),
    }


def _is_mixture(module: nn.Module) -> bool:
    """A layer's experts as one module, called with (hidden states [T, E], routes int64 [T, K], their weights)."""
    return type(module).__name__.endswith("Experts") and isinstance(getattr(module, "num_experts", None), int)
