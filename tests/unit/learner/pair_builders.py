"""Pairs with and without pictures, SFT rows beside them, and MPO worked out from plain forward passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pangu_rl.algorithms.mpo import mpo_loss
from pangu_rl.data.packs.batching import PairRow, pack_counts, split_ranks
from pangu_rl.data.packs.layout import TrainingRow
from pangu_rl.records import MiniBatch, Picture
from tests.unit.data.groups import pack_pairs
from tests.unit.learner.vl_builders import PLACEHOLDERS, group

Weights = tuple[float, float, float]


def pair(name: str, pictures: Sequence[Picture], lengths: tuple[int, int], reference: tuple[float, float]) -> PairRow:
    """A prompt of 7 text tokens and its pictures; random responses of these lengths."""
    drawn = group(name, pictures, lengths)
    prompt = TrainingRow(
        token_ids=drawn.prompt_token_ids,
        trained=(False,) * len(drawn.prompt_token_ids),
        positions=drawn.prompt_positions,
        pictures=drawn.pictures,
    )
    chosen, rejected = (completion.token_ids for completion in drawn.completions)
    return PairRow(prompt=prompt, chosen=chosen, rejected=rejected, reference=reference)


def sft_row(name: str, length: int) -> TrainingRow:
    """A text prompt of 7 tokens and a trained answer."""
    drawn = group(name, [], [length])
    ids = (*drawn.prompt_token_ids, *drawn.completions[0].token_ids)
    return TrainingRow(
        token_ids=ids, trained=(False,) * 7 + (True,) * length, positions=np.stack([np.arange(len(ids))] * 3)
    )


def mini_batches(
    pairs: Sequence[PairRow], rows: Sequence[TrainingRow] = (), *, pack_tokens: int = 10_000, ranks: int = 1
) -> list[MiniBatch]:
    """One per rank, as the loop builds them."""
    packs = pack_pairs(pairs, pack_tokens, PLACEHOLDERS, rows)
    tokens, sequences = pack_counts(packs)
    row_tokens = tokens - sum(len(pair.chosen) + len(pair.rejected) for pair in pairs)
    batches = split_ranks(packs, ranks, tokens, sequences)
    return [replace(batch, loss_pairs=len(pairs), row_tokens=row_tokens) for batch in batches]


def log_probs_alone(
    lm: PreTrainedModel, prompt: Sequence[int], answer: Sequence[int], pictures: Sequence[Picture]
) -> Tensor:
    """[T] of `answer` by the model's own forward pass, one sequence, its pictures with it."""
    ids = torch.tensor([[*prompt, *answer]])
    shown = {}
    if pictures:
        shown = {
            "pixel_values": torch.from_numpy(np.concatenate([p.patches for p in pictures])),
            "image_grid_thw": torch.tensor([p.grid for p in pictures]),
        }
    logits = lm(input_ids=ids, use_cache=False, **shown).logits[0, :-1]
    return logits.log_softmax(-1).gather(-1, ids[0, 1:, None])[len(prompt) - 1 :, 0]


def summed_alone(lm: PreTrainedModel, pairs: Sequence[PairRow]) -> tuple[Tensor, Tensor]:
    """[B] summed log-probs of the chosen and of the rejected responses, two forward passes a pair."""
    chosen, rejected = (
        [log_probs_alone(lm, row.prompt.token_ids, getattr(row, side), row.prompt.pictures).sum() for row in pairs]
        for side in ("chosen", "rejected")
    )
    return torch.stack(chosen), torch.stack(rejected)


def loss_alone(
    lm: PreTrainedModel, pairs: Sequence[PairRow], rows: Sequence[TrainingRow], weights: Weights, shift: float
) -> Tensor:
    """The loss of a step from plain forward passes: every sample has one vote."""
    chosen, rejected = summed_alone(lm, pairs)
    lengths = torch.tensor([len(row.chosen) for row in pairs])
    references = torch.tensor([row.reference for row in pairs]).T
    loss, _ = mpo_loss(chosen, rejected, *references, lengths, weights=weights, reward_shift=shift)
    if not rows:
        return loss
    tokens = [log_probs_alone(lm, row.token_ids[:7], row.token_ids[7:], ()) for row in rows]
    return (len(pairs) * loss - len(rows) * torch.cat(tokens).mean()) / (len(pairs) + len(rows))
