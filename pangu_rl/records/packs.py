"""What a learner trains on. Lengths in brackets: T tokens, S segments, M targets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from pangu_rl.records.prompts import Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """Sequences laid end to end, with a tree of attention: the one batch format of every stage.

    A segment attends to itself causally and, if it has a parent, to all of its parent (and the parent's parent).
    A GRPO group is one prompt segment and N completion segments whose parent it is, so the prompt stands once.
    Segments come after their parents; a plain sequence is one segment without a parent.

    Example: prompt [5 6 7], completions [8 9] and [4]:
        token_ids       5 6 7 8 9 4
        position_ids    0 1 2 3 4 3
        segment_starts  0 3 5 6          (S + 1 entries)
        segment_parents -1 0 0
        targets         3 4 5            (8, 9 and 4 are trained)
        predictors      2 3 2            (the prompt's last hidden state predicts both first tokens)
        sequence_ids    0 0 1
    """

    token_ids: np.ndarray
    """int64 [T]"""
    position_ids: np.ndarray
    """int64 [T], or [3, T] (time, height, width) for a multimodal model; restarts with every root segment and goes on
    in a child from the parent's end, which is one more than the parent's largest position."""
    segment_starts: np.ndarray
    """int64 [S + 1]"""
    segment_parents: np.ndarray
    """int64 [S], -1 for a root."""
    targets: np.ndarray
    """int64 [M], indices into `token_ids` of the tokens in the loss."""
    predictors: np.ndarray
    """int64 [M], index of the hidden state that predicts each target."""
    sequence_ids: np.ndarray
    """int64 [M], which sequence (completion or sample) of the global batch each target belongs to."""
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    """Per-target float32 [M] inputs of the objective, e.g. `advantages`, `sampler_logprobs`, `old_logprobs`; and
    `pack_ids` where several packs share a micro-batch, whose losses may be sums within each."""
    pictures: tuple[Picture, ...] = ()
    """Pictures of the pack in token order; one that several prompts share may stand here several times and is encoded
    once."""
    picture_tokens: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """int64 [K], indices of the placeholder tokens, which the features of `pictures` replace in order."""

    @property
    def num_tokens(self) -> int:
        return int(self.token_ids.shape[0])

    @property
    def num_targets(self) -> int:
        return len(self.targets)

    def lay_out(self) -> Pack:
        """Itself."""
        return self


class PackLike(Protocol):
    """A pack, or an outline of one: what it holds, before its arrays are made.

    A token of a rollout is its id and its log-prob, 8 bytes, and 48 in a `Pack`, whose positions, targets and
    advantages are counts and repetitions. So packs travel as outlines, and a rank lays one out when its turn comes.
    """

    num_tokens: int
    num_targets: int
    segment_starts: np.ndarray
    segment_parents: np.ndarray
    sequence_ids: np.ndarray
    pictures: tuple[Picture, ...]
    columns: dict[str, np.ndarray]
    """Those that its tokens do not bring along."""

    def lay_out(self) -> Pack:
        """The pack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MiniBatch:
    """One optimiser step's data for one rank."""

    packs: tuple[PackLike, ...]
    """Micro-batches; every rank gets the same number (ZeRO 2 and 3 reduce at each), an empty one has no targets. Or a
    handle to them, which the actors resolve."""
    loss_tokens: int
    """Targets in the *global* mini-batch: the denominator of the token mean, the same on every rank."""
    loss_sequences: int
    """Sequences in the *global* mini-batch: the denominator of the sequence means."""
    loss_roots: float = 0.0
    """Sum over the sequences of the *global* mini-batch of the root of their targets: the denominator of the square
    average, and only set for it."""
    loss_pairs: int = 0
    """Preference pairs in the *global* mini-batch. Its sequences 2p and 2p + 1 are the chosen and the rejected response
    of pair p; those from 2 * `loss_pairs` on are SFT rows."""
    row_tokens: int = 0
    """Targets of the SFT rows beside the pairs, in the *global* mini-batch."""
