"""A loss over the whole batch, a graph of one part of it at a time (GradCache, arXiv 2101.06983).

    parts --without graph--> embeddings --> loss --> its gradient at the embeddings
      '----with graph, part by part, from that gradient back-----> parameters

The loss sees every embedding, so its negatives are those of the global batch whatever the parts are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

Part = TypeVar("Part")
Found = TypeVar("Found")


def backward_in_parts(
    parts: Sequence[Part],
    embed: Callable[[Part], tuple[Tensor, ...]],
    loss: Callable[[tuple[Tensor, ...]], tuple[Tensor, Found]],
) -> tuple[Tensor, Found]:
    """Loss, and what came with it, of the embeddings of all parts; gradients are added to those of the parameters.

    `embed` gives one or more kinds of embeddings [N, D] of a part, the same at every call; with several parts it is
    called twice for each. `loss` takes each kind of the whole batch, in the order of the parts.
    """
    if len(parts) == 1:
        value, found = loss(embed(parts[0]))
        value.backward()
        return value.detach(), found
    with torch.no_grad():
        kinds = list(zip(*(embed(part) for part in parts), strict=True))
    whole = tuple(torch.cat(kind).requires_grad_() for kind in kinds)
    value, found = loss(whole)
    value.backward()
    gradients = [one.grad.split([len(piece) for piece in kind]) for one, kind in zip(whole, kinds, strict=True)]
    for part, own in zip(parts, zip(*gradients, strict=True), strict=True):
        # A part without a region has embeddings that hang on nothing.
        pairs = [pair for pair in zip(embed(part), own, strict=True) if pair[0].requires_grad]
        if pairs:
            torch.autograd.backward(*map(list, zip(*pairs, strict=True)))
    return value.detach(), found
