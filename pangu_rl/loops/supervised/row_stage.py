"""What SFT and preference optimisation share: **rows are read and packed for the next step while one trains**."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pangu_rl.config.stages import DpoConfig, SftConfig
from pangu_rl.data.mixing.seen import Seen
from pangu_rl.loops.actors.learners import Learners
from pangu_rl.loops.ahead import Ahead
from pangu_rl.loops.pictures import RowLoader
from pangu_rl.loops.session import Run
from pangu_rl.loops.skipped import log_skipped
from pangu_rl.records import MiniBatch


@dataclass(frozen=True, slots=True)
class PreparedStep:
    """A step whose rows are packed."""

    handles: list[Any]
    """To the mini-batches of each rank."""
    seen: Seen
    ids: list[str]
    left_out: dict[str, float]


@dataclass(slots=True, kw_only=True)
class RowStage(ABC):
    """A `SupervisedStage` whose steps are made a step ahead."""

    config: SftConfig | DpoConfig
    loader: RowLoader
    learners: Learners
    seen: Seen = field(default_factory=Seen)
    """What was trained on, by source."""
    _ahead: Ahead[PreparedStep] = field(init=False)

    def __post_init__(self) -> None:
        self._ahead = Ahead(self._prepared, self.drawn)

    @abstractmethod
    def next_batch(self) -> tuple[list[MiniBatch], Seen, list[str]]:
        """The next rows, packed, one mini-batch per group of ranks, what is counted of them, and the ids of all."""

    @abstractmethod
    def drawn(self) -> dict[str, Any]:
        """What `next_batch` has drawn, as JSON."""

    @abstractmethod
    def load_drawn(self, state: Mapping[str, Any]) -> None: ...

    @abstractmethod
    def left_out(self) -> dict[str, float]:
        """Metrics of the drawn rows that were passed over so far."""

    def train_step(self, run: Run, step: int) -> dict[str, float]:
        """One update, while the next step's rows are read."""
        with run.phase("data"):
            prepared = self._ahead.take()
        self.seen += prepared.seen
        if step < self.config.trainer.steps:
            self._ahead.start()
        with run.phase("train"):
            [update] = self.learners.update_from(prepared.handles)
        log_skipped(step, update["skipped"], prepared.ids)
        return {f"train/{name}": value for name, value in update.items()} | prepared.left_out | self.seen.metrics()

    def close(self) -> None:
        self._ahead.close()

    def state_dict(self) -> dict[str, Any]:
        return self._ahead.state_dict() | {"seen": self.seen.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.load_drawn(state)
        self.seen = Seen.from_state(state["seen"])

    def _prepared(self) -> PreparedStep:
        batches, seen, ids = self.next_batch()
        return PreparedStep(self.learners.hand_out([batches]), seen, ids, self.left_out())
