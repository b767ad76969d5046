"""The learner, in seconds: lengths of a step's groups -> **packs, dealt to the ranks** -> how long the updates take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pangu_rl.data.packs.bins import first_fit_decreasing
from pangu_rl.data.packs.micro_batches import Dealing
from pangu_rl.learner.measure.flops import FORWARD, WHOLE, ModelFlops, Work
from pangu_rl.simulation.lengths import DrawnGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What a step's updates cost."""

    seconds: float
    computing: float
    """Seconds that the mean rank computes; the rest waits for slower ranks and for communication."""
    packs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerCost:
    """How packs become seconds. A group is a sequence-parallel one; without sequence parallelism a rank."""

    flops: ModelFlops
    group_flops: float
    """FLOP/s of one group: peak times the share of it that training reaches, all its ranks together."""
    groups: int
    pack_tokens: int
    micro_batch_tokens: int | None = None
    in_rows: bool = False
    """Ranks wait for each other at every micro-batch (ZeRO 2 and 3)."""
    overlapped: bool = False
    """What is communicated at a micro-batch passes beside its arithmetic."""
    recomputed: bool = False
    """Gradient checkpointing: the forward pass runs twice."""
    mini_batches: int = 1
    micro_batch_s: float = 0.0
    """Communication of a micro-batch."""
    update_s: float = 0.0
    """Of every update: reducing gradients, the optimizer's step, what offload moves."""

    def training(self, drawn: Sequence[DrawnGroup]) -> Training:
        """One update for each mini-batch; above one, old log-probs take a forward pass more."""
        bounds = [len(drawn) * part // self.mini_batches for part in range(self.mini_batches + 1)]
        updates = [self._update(drawn[start:end]) for start, end in pairwise(bounds) if end > start]
        return Training(
            seconds=sum(update.seconds for update in updates),
            computing=sum(update.computing for update in updates),
            packs=sum(update.packs for update in updates),
        )

    def _update(self, drawn: Sequence[DrawnGroup]) -> Training:
        tokens, costs = self.packs(drawn)
        dealing = Dealing(cost=lambda pack: 0.0, micro_batch_tokens=self.micro_batch_tokens, in_rows=self.in_rows)
        shared = dealing.share(tokens, costs, self.groups)
        loads = [[sum(costs[number] for number in packs) / self.group_flops for packs in own] for own in shared]
        if self.in_rows:
            rows = [self._micro_batch(max(row)) for row in zip(*loads, strict=True)]
            seconds = sum(rows)
        else:
            seconds = max(sum(own) for own in loads)
        computing = sum(map(sum, loads)) / self.groups
        return Training(seconds=seconds + self.update_s, computing=computing, packs=len(tokens))

    def _micro_batch(self, arithmetic: float) -> float:
        return max(arithmetic, self.micro_batch_s) if self.overlapped else arithmetic + self.micro_batch_s

    def packs(self, drawn: Sequence[DrawnGroup]) -> tuple[list[int], list[float]]:
        """(tokens, FLOPs) of every pack, as `data.batching.pack_groups` lays them out: a group's prompt once in each
        pack that holds answers of it, whole trees to a pack."""
        sizes: list[int] = []
        work: list[float] = []
        for group in drawn:
            room = self.pack_tokens - group.prompt
            for share in first_fit_decreasing(group.answers, room):
                answers = [group.answers[index] for index in share]
                sizes.append(group.prompt + sum(answers))
                work.append(self._tree(group.prompt, answers))
        bins = first_fit_decreasing(sizes, self.pack_tokens)
        return [sum(sizes[tree] for tree in trees) for trees in bins], [
            sum(work[tree] for tree in trees) for trees in bins
        ]

    def _tree(self, prompt: int, answers: Sequence[int]) -> float:
        """FLOPs that are computed: an answer attends to its prompt and to itself."""
        pairs = prompt * (prompt + 1) / 2 + sum(answer * prompt + answer * (answer + 1) / 2 for answer in answers)
        work = Work(tokens=prompt + sum(answers), targets=sum(answers), pairs=pairs)
        passes = WHOLE + (FORWARD if self.recomputed else 0) + (FORWARD if self.mini_batches > 1 else 0)
        return passes * self.flops.of_language(work)
