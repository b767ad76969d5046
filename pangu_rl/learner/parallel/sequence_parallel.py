"""Sequence parallelism: a pack that s ranks hold -> **each runs 1/s of its tokens, and in attention 1/s of the heads**.

DeepSpeed Ulysses (arXiv 2309.14509). Embeddings, norms, MLPs and the head see a rank's slice of the tokens. Before
attention one all-to-all gives the rank all tokens of its heads, and one after it the slice again, so attention is the
packed one, segments and all. DeepSpeed's own module for transformers is not used: it takes the borders of segments from
positions, which it gathers in every layer, and a picture's positions repeat; here the layout of the pack has them.

The log-probs of all slices are gathered, and every rank works the same loss L of the whole pack out of them: the sums
of eq. (1), which span the pack, and the losses of pairs and groups need not know of slices. A rank keeps
dL / d log-prob of its own targets and carries it back through its slice. What it then has for a parameter is one of s
terms whose sum is dL / d parameter, just as the packs of different ranks give terms of a sum: the learner adds up the
gradients of all ranks, and how many of them share a pack makes no difference.
Letters: s ranks, T tokens, t = T / s, H heads, K key-value heads, D head size, M targets, m those of a rank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from transformers import AutoConfig

from pangu_rl.accelerators.exchange import exchange_blocks
from pangu_rl.accelerators.gather import gather_rows
from pangu_rl.checkpoint.model_folder import model_config
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.errors import ConfigError
from pangu_rl.records import Pack
from pretrain.auto import register_auto_classes


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceGroup:
    """The ranks that hold one pack, seen from one of them."""

    group: dist.ProcessGroup
    size: int
    rank: int
    """Of this process among them; it runs the slice of that number."""

    def span(self, tokens: int) -> slice:
        """This rank's of so many tokens, a multiple of `size`."""
        each = tokens // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def to_heads(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        """[t, H, D], [t, K, D] twice, of this rank's tokens -> [T, H / s, D] and the like, of this rank's heads.

        Key-value heads that s does not divide are repeated as often as it takes.
        """
        repeats = math.lcm(key.shape[1], self.size) // key.shape[1]
        key, value = (x.repeat_interleave(repeats, dim=1) if repeats > 1 else x for x in (key, value))
        parts = [x.unflatten(1, (self.size, -1)) for x in (query, key, value)]
        received = exchange_blocks(torch.cat(parts, dim=2).transpose(0, 1), self.group)
        return received.flatten(0, 1).split([x.shape[2] for x in parts], dim=1)

    def to_tokens(self, output: Tensor) -> Tensor:
        """[T, H / s, D] of this rank's heads -> [t, H, D] of its tokens."""
        received = exchange_blocks(output.unflatten(0, (self.size, -1)), self.group)
        return received.transpose(0, 1).flatten(1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetShares:
    """Which rank predicts which of a pack's targets."""

    sequence: SequenceGroup
    counts: tuple[int, ...]
    """Each rank's m."""
    places: Tensor
    """int64 [M], where each target stands among those of all ranks, one rank's after the other."""

    def gather(self, *columns: Tensor) -> tuple[Tensor, ...]:
        """[m] each, of this rank's targets -> [M] each, of all; a gradient is this rank's of its own targets."""
        rows = gather_rows(torch.stack(columns, 1), self.counts, self.sequence.group, partial=False)
        return rows[self.places].unbind(1)


def open_sequence_group(degree: int) -> SequenceGroup | None:
    """The group of this rank, ranks 0 to s - 1 being the first; None at degree 1. Collective."""
    if degree == 1:
        return None
    group, _ = dist.new_subgroups(degree)
    return SequenceGroup(group=group, size=degree, rank=dist.get_rank(group))


def check_heads(config: ModelConfig, degree: int) -> None:
    """Before the weights are read: can the attention heads be dealt equally to so many ranks?

    Raises:
        ConfigError: they cannot. DataError: the folder holds no model.
    """
    if degree == 1:
        return
    path = resolve_path(config.path)
    model_config(path)
    register_auto_classes()
    shape = AutoConfig.from_pretrained(path, trust_remote_code=config.trust_remote_code)
    heads = shape.get_text_config().num_attention_heads
    if heads % degree:
        divisors = ", ".join(str(n) for n in range(1, heads + 1) if heads % n == 0)
        raise ConfigError(
            f"learner.sequence_parallel {degree} does not divide the {heads} attention heads of {path}: choose one of "
            f"{divisors}"
        )


def padded(pack: Pack, multiple: int) -> Pack:
    """`pack` with as many tokens as make its length a multiple: a segment that nothing attends to, without a target."""
    missing = -pack.num_tokens % multiple
    if not missing:
        return pack
    positions = np.broadcast_to(np.arange(missing), (*pack.position_ids.shape[:-1], missing))
    return replace(
        pack,
        token_ids=np.append(pack.token_ids, np.zeros(missing, dtype=np.int64)),
        position_ids=np.concatenate([pack.position_ids, positions], axis=-1),
        segment_starts=np.append(pack.segment_starts, pack.num_tokens + missing),
        segment_parents=np.append(pack.segment_parents, -1),
    )


def share_targets(pack: Pack, sequence: SequenceGroup, device: torch.device | str) -> tuple[np.ndarray, TargetShares]:
    """int64 [m], the numbers of this rank's among the targets of a padded `pack`, and how all are gathered.

    A target belongs to the rank whose slice predicts it, though the token itself may stand in the next one.
    """
    owners = pack.predictors // (pack.num_tokens // sequence.size)
    order = np.argsort(owners, kind="stable")
    shares = TargetShares(
        sequence=sequence,
        counts=tuple(np.bincount(owners, minlength=sequence.size).tolist()),
        places=torch.from_numpy(np.argsort(order)).to(device),
    )
    return np.flatnonzero(owners == sequence.rank), shares
