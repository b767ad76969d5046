"""Truth at start: a made-up pack -> **packed log-probs against the model's own forward** -> trained, or refused.

Two questions, each with the smallest limit that rounding leaves:

1. Do a sequence's log-probs change with the sequences before it in the pack, which stand in reverse the second time? In
   a sound model they do not: on most devices to the bit, in any dtype, and elsewhere by no more than moving the pack's
   sequences changes that keep their neighbours. The state of a recurrence or a convolution that runs on into the next
   sequence, and attention that looks at it, are seen from thousandths of a nat on.
2. Are the packed log-probs those of the model's own forward, every sequence alone, with eager attention? They are of a
   sound model up to rounding, and how much that is, the model says itself: by what its own forward makes of embeddings
   whose last digit is another. Beyond twice that, positions, scores or logits are computed in another way.

Both compare the median over the targets of sequences, and that over those of completions behind a prompt: a mixture of
experts that rounding sends another way changes a few tokens by a lot, a fault changes most of a kind. That windows,
caps and sinks are obeyed in *long* sequences is not seen here; `packed_attention` refuses by name what it does not
compute. Letters: T tokens, M targets, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import PreTrainedModel

from pangu_rl.errors import DataError, RunError, UserError, first_line
from pangu_rl.learner.checks.trial_pack import reordered, turned
from pangu_rl.learner.model import PackTensors, packed_text
from pangu_rl.learner.packed_attention import PACKED, attend_by
from pangu_rl.learner.parallel.sequence_parallel import SequenceGroup
from pangu_rl.learner.pictures import family_of_model, own_inputs
from pangu_rl.records import Pack

LAST_DIGIT = 1e-4
"""Nats that are never too many, in any dtype."""
ROUNDINGS = 2.0
"""Times that a difference may exceed what rounding was seen to make. Over 50 families in bfloat16 packed log-probs are
0.2 to 1.05 times as far from the model's own as these from themselves with another last digit (SmolLM2-135M: 0.05 and
0.15 nats, its logits are large)."""

Forward = Callable[[PackTensors, float], tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackingCheck:
    """The larger of the medians over targets of either kind, in nats."""

    order: float
    """|packed - packed in another order|"""
    plain: float
    """|packed - the model's own forward|"""
    order_limit: float
    plain_limit: float
    """What rounding may make of them."""
    tokens: int
    """Targets compared."""


def check_packing(
    forward: Forward,
    lm: PreTrainedModel,
    pack: Pack,
    sequence: SequenceGroup | None = None,
) -> PackingCheck:
    """Compare the log-probs of `forward(batch, temperature)`, which runs `lm`, with those of `lm` alone, over `pack`.
    Collective.

    Raises:
        DataError: the model cannot be trained packed; the message says what differs, by how much, and why that is.
    """
    try:
        found = _compared(forward, lm, pack, sequence)
    except (UserError, RunError, torch.OutOfMemoryError, dist.DistError, OSError):
        raise  # none of the model's doing
    except Exception as error:
        # Anything may come out of a model's own code that was not written for packs.
        raise DataError(
            f"model.path: {type(lm).__name__} does not run packed ({type(error).__name__}: {first_line(error)}): its "
            "code takes no packed sequences; choose a model of plain causal attention"
        ) from error
    if not found.order <= found.order_limit:
        raise DataError(
            f"model.path: packed log-probs of {type(lm).__name__} change by {found.order:.2g} nats with the order of "
            f"the sequences in the pack (rounding: {found.order_limit:.2g}): {_leak(lm)}; it cannot be trained packed"
        )
    if not found.plain <= found.plain_limit:
        raise DataError(
            f"model.path: packed log-probs of {type(lm).__name__} differ from its own forward by {found.plain:.2g} "
            f"nats (rounding: {found.plain_limit:.2g}): its attention bypasses transformers' registry or has a "
            "position bias (ALiBi), or its logits are scaled or capped in a way that is not known; "
            "it cannot be trained packed"
        )
    return found


@torch.no_grad()
def _compared(forward: Forward, lm: PreTrainedModel, pack: Pack, sequence: SequenceGroup | None) -> PackingCheck:
    device = next(lm.parameters()).device
    branched = torch.from_numpy(_is_branched(pack)).to(device)

    def packed(one: Pack) -> Tensor:
        batch = PackTensors.of(one, device, sequence)
        with attend_by(batch.layout):
            return forward(batch, 1.0)[0]

    def median(difference: Tensor) -> float:
        kinds = difference.abs()[branched], difference.abs()[~branched]
        return max(kind.median().item() for kind in kinds if len(kind))

    here, moved, there = packed(pack), packed(turned(pack)), packed(reordered(pack))
    lm.set_attn_implementation("eager")
    try:
        own = _own_logprobs(lm, pack, device)
        with _another_last_digit(lm):
            rounded = _own_logprobs(lm, pack, device)
    finally:
        family = family_of_model(lm)
        lm.set_attn_implementation(PACKED if family is None else packed_text(family))
    plain_limit = max(LAST_DIGIT, ROUNDINGS * median(own - rounded))
    # The mean, which a few tokens make greater than 0 where the median is not.
    again = max(LAST_DIGIT, ROUNDINGS * (here - moved).abs().mean().item())
    return PackingCheck(
        order=median(here - there),
        order_limit=min(again, plain_limit),
        plain=median(here - own),
        plain_limit=plain_limit,
        tokens=len(here),
    )


def _own_logprobs(lm: PreTrainedModel, pack: Pack, device: torch.device) -> Tensor:
    """float32 [M] of the model's own forward, in the order of the pack's targets.

    One batch of all sequences, filled up at their ends, where nothing that is causal looks.
    """
    rows = list(unpacked(pack))
    ids = np.full((len(rows), max(len(tokens) for tokens, _ in rows)), pack.token_ids[0])
    for row, (tokens, _) in enumerate(rows):
        ids[row, : len(tokens)] = pack.token_ids[tokens]
    batch, pictures = torch.from_numpy(ids).to(device), {}
    if family_of_model(lm) is not None:
        pictures = own_inputs(lm, pack, [tokens for tokens, _ in rows], batch)
    logits = lm(input_ids=batch, use_cache=False, **pictures).logits
    result = torch.empty(len(pack.targets), dtype=torch.float32, device=device)
    for row, (tokens, targets) in enumerate(rows):
        places = torch.from_numpy(np.searchsorted(tokens, pack.targets[targets])).to(device)
        logprobs = torch.log_softmax(logits[row, places - 1].float(), -1)
        result[torch.from_numpy(targets).to(device)] = logprobs.gather(1, batch[row, places, None]).squeeze(1)
    return result


@contextmanager
def _another_last_digit(lm: PreTrainedModel) -> Iterator[None]:
    """Every embedding is off by one digit of its dtype, up and down in turn."""

    def shift(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        signs = 2 * (torch.arange(output.shape[-1], device=output.device) % 2) - 1
        return output * (1 + signs * torch.finfo(output.dtype).eps).to(output.dtype)

    hook = lm.get_input_embeddings().register_forward_hook(shift)
    try:
        yield
    finally:
        hook.remove()


def unpacked(pack: Pack) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every segment with targets, as its own sequence: (its tokens, ancestors first; its rows among the targets).

    Both are int64 indices. Ancestors stand before their children in a pack, so the first is sorted.
    """
    bounds = np.asarray(pack.segment_starts)
    segment_of = np.searchsorted(bounds, pack.targets, side="right") - 1
    for segment in np.unique(segment_of):
        spans, current = [], int(segment)
        while current >= 0:
            spans.append(np.arange(bounds[current], bounds[current + 1]))
            current = int(pack.segment_parents[current])
        yield np.concatenate(spans[::-1]), np.flatnonzero(segment_of == segment)


def _is_branched(pack: Pack) -> np.ndarray:
    """bool [M], whether the target is of a segment behind another."""
    segments = np.searchsorted(pack.segment_starts, pack.targets, side="right") - 1
    return pack.segment_parents[segments] >= 0


def _leak(lm: PreTrainedModel) -> str:
    """What may carry one sequence into the next: a layer with a convolution over tokens has a state, as a rule."""
    convolving = {type(m).__name__ for m in lm.modules() if any(isinstance(c, nn.Conv1d) for c in m.children())}
    if convolving:
        return f"the state of {', '.join(sorted(convolving))} runs on from one sequence into the next"
    return "its attention, or a state of its own, reads across the borders of sequences"
