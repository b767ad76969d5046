"""One stage of pre-training: orders -> loaders -> **next-token loss on packs** -> a checkpoint.

    order (plan, or packing online) --rows of each pack--> loader of each rank --packs--> learner of each rank
                    |                                              |
                    '-- what is consumed, in the checkpoint        '-- prepares a step ahead

The driver sees identities and counts alone. The learner, the loop and the run directory are those of SFT.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pangu_rl.config.paths import resolve_path
from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.data.row_files import open_rows
from pangu_rl.errors import ConfigError, DataError
from pangu_rl.loops.begun_with import begun_with
from pangu_rl.loops.learners import Learners
from pangu_rl.loops.restarts import with_restarts
from pangu_rl.loops.session import Run, open_run
from pangu_rl.loops.supervised.stage import open_learners, train_stage
from pretrain.packing.plan_file import PlanReader
from pretrain.train.actor import Loaders
from pretrain.train.loader import Counts, PackLoader, require_plannable
from pretrain.train.order import OnlineOrder, Order, PlannedOrder
from pretrain.train.watch import SpikeWatch

log = logging.getLogger(__name__)

Stage = TypeVar("Stage", PretrainConfig, VisionStageConfig)


@dataclass(slots=True, kw_only=True)
class PretrainParts:
    """What the loop works with."""

    config: PretrainConfig
    order: Order
    loaders: Loaders
    learners: Learners
    watch: SpikeWatch
    seen: Counter[str] = field(default_factory=Counter)
    """Samples trained on, by source."""
    skipped: int = 0
    _before: dict[str, Any] | None = None
    """The order's state before the step that is being prepared."""

    def prepare(self) -> None:
        """Tell the loaders what the next step trains on; they work while the learner does."""
        self._before = self.order.state_dict()
        self.loaders.prepare(self.order.next_batch())

    def next_batch(self) -> tuple[list[Any], Counts]:
        """The prepared step: a handle to each rank's mini-batches, and the counts of all."""
        if self._before is None:
            self.prepare()
        handles, total = self.loaders.take()
        self._before = None
        for line in total.skipped:
            log.warning("left out: %s", line)
        self.seen += total.sources
        self.skipped += len(total.skipped)
        return handles, total

    def metrics(self, counts: Counts) -> dict[str, float]:
        """Of the step's data; samples and skipped rows are counted from the start of the stage."""
        capacity = self.config.trainer.packs_per_step * self.config.learner.pack_tokens
        samples = {f"data/samples/{source or 'all'}": float(count) for source, count in sorted(self.seen.items())}
        skipped = float(self.skipped + self.order.skipped)
        return {"data/fill": counts.tokens / capacity, "data/skipped": skipped} | samples

    def train_step(self, run: Run, step: int) -> dict[str, float]:
        """One update, while the loaders prepare the next step."""
        with run.phase("data"):
            handles, counts = self.next_batch()
        if step < self.config.trainer.steps:
            self.prepare()
        with run.phase("train"):
            [update] = self.learners.update_from(handles)
        metrics = {f"train/{name}": value for name, value in update.items()} | self.metrics(counts)
        return metrics | _judged(run, self.watch, step, update["nll"])

    def state_dict(self) -> dict[str, Any]:
        # What is prepared ahead has not been trained on.
        consumed = self._before or self.order.state_dict()
        return {"order": consumed, "seen": dict(self.seen), "skipped": self.skipped, "losses": self.watch.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.order.load_state_dict(state["order"])
        self.seen = Counter(state["seen"])
        self.skipped = state["skipped"]
        self.watch.load_state_dict(state["losses"])


def run_pretrain(config: PretrainConfig) -> dict[str, float]:
    """Run the stage to its last step, from the newest checkpoint if there is one; returns the last step's metrics.

    Raises:
        UserError, RunError: see `pangu_rl.errors`. Preempted: SIGTERM came, a checkpoint was written.
    """
    data = config.data
    files = open_rows(
        data.row_paths(), on_bad_row=data.on_bad_row, media_root=data.media_path(), passed=data.pass_through
    )
    loader = PackLoader(config, files)
    order = open_order(config, loader)
    unread = order.state_dict()

    def train() -> dict[str, float]:
        order.load_state_dict(unread)  # where ranks were lost before the first checkpoint
        with open_parts(config, run, loader, order) as parts:
            return train_stage(run, parts, config.trainer.steps)

    begun = begun_with("pretrain", config, resolve_path(config.model.path), {"rows": files.digest})
    with open_run(config, "pre-training", settings=begun) as run:
        return with_restarts(run, config.trainer.max_restarts, train)


def open_order(config: PretrainConfig, loader: PackLoader) -> Order:
    """The plan of the stage, or packing on the way.

    Raises:
        UserError: a plan that does not fit the stage, shares that do not fit the rows.
    """
    if config.data.plan is None:
        return OnlineOrder(loader.files, config, lambda index: _measured(loader, index), loader.cost)
    require_plannable(loader.encoder.family)
    reader = PlanReader(resolve_path(config.data.plan))
    settings = reader.manifest["settings"]
    if loader.encoder.family is not None:
        limits = loader.folder.limits
        planned = settings["min_pixels"], settings["max_pixels"]
        if planned != (limits.min_pixels, limits.max_pixels):
            raise ConfigError(
                f"{reader.directory} was packed for pictures of {planned[0]} to {planned[1]} pixels, the stage shows "
                f"them at {limits.min_pixels} to {limits.max_pixels}: set data.min_pixels and data.max_pixels, or pack "
                "again"
            )
    return PlannedOrder(reader, loader.files, config, loader.cost)


@contextmanager
def open_parts(config: PretrainConfig, run: Run, loader: PackLoader, order: Order) -> Iterator[PretrainParts]:
    """Start the learner and its loaders; they end with the context."""
    for line in loader.files.skipped:
        log.warning("left out: %s", line)
    with (
        run.placed(config) as placement,
        closing(Loaders(config, loader.files, placement)) as loaders,
        open_learners(config, "sft", run, placement) as learners,
    ):
        yield PretrainParts(
            config=config,
            order=order,
            loaders=loaders,
            learners=learners,
            watch=SpikeWatch(config.trainer.loss_spike),
            skipped=loader.files.left_out,
        )


def _measured(loader: PackLoader, index: int) -> tuple[int, int, int] | None:
    """(tokens, visual tokens, pairs of patches within a frame) of a row for the online packer."""
    try:
        tokens, grids = loader.sizes(index)
        if tokens > loader.context:
            where = loader.files.where(index)
            raise DataError(f"{where}: {tokens} tokens are longer than a pack, learner.pack_tokens {loader.context}")
    except DataError as error:
        if not loader.skips:
            raise DataError(f"{error} (mend it, or set data.on_bad_row to skip)") from None
        log.warning("left out: %s", error)
        return None
    visual = sum(count * rows * columns // 4 for count, rows, columns in grids)
    return tokens, visual, sum(count * (rows * columns) ** 2 for count, rows, columns in grids)


def _judged(run: Run, watch: SpikeWatch, step: int, loss: float) -> dict[str, float]:
    usual = watch.judge(loss)
    if usual is not None:
        run.say(f"step {step}: the loss {loss:.3f} is a spike, the median of the last steps is {usual:.3f}")
    return {"train/loss_spike": float(usual is not None)}
