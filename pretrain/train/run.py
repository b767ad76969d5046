"""One stage of pre-training: orders -> loaders -> **next-token loss on packs** -> a checkpoint.

    order (plan, or packing online) --rows of each pack--> loader of each rank --packs--> learner of each rank
          |          '--<-- sizes of the rows to come --<--'  '-- prepares a step ahead
          '-- what is consumed, in the checkpoint

The driver sees identities, sizes and counts alone, in a thread a step ahead of the learner. Learner, loop and run
directory are those of SFT.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, field
from typing import Any, TypeVar

from pangu_rl.config.paths import resolve_path
from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.data.files.row_files import open_rows
from pangu_rl.data.mixing.seen import Seen
from pangu_rl.errors import ConfigError
from pangu_rl.loops.actors.learners import Learners
from pangu_rl.loops.actors.restarts import with_restarts
from pangu_rl.loops.ahead import Ahead
from pangu_rl.loops.begun_with import begun_with
from pangu_rl.loops.session import Run, open_run
from pangu_rl.loops.skipped import log_skipped
from pangu_rl.loops.supervised.stage import open_learners, train_stage
from pangu_rl.monitoring.run_log import logs_refusals
from pangu_rl.records import MiniBatch
from pretrain.packing.plan_file import PlanReader
from pretrain.train.actor import Loaders
from pretrain.train.loader import Counts, PackLoader, require_plannable
from pretrain.train.online import OnlineOrder
from pretrain.train.order import Order, PlannedOrder
from pretrain.train.watch import SpikeWatch

log = logging.getLogger(__name__)

Stage = TypeVar("Stage", PretrainConfig, VisionStageConfig)


Prepared = tuple[list[list[MiniBatch]], Counts, int]
"""A step: each rank's mini-batches, the counts of all, and the rows passed over by then."""


@dataclass(slots=True, kw_only=True)
class PretrainParts:
    """What the loop works with."""

    config: PretrainConfig
    order: Order
    loaders: Loaders
    learners: Learners
    watch: SpikeWatch
    seen: Seen = field(default_factory=Seen)
    """What was trained on, by source."""
    skipped: int = 0
    """Rows left out when their pack was due, and of the index."""
    _passed_over: int = 0
    """Rows left out before they came into a pack."""
    _ahead: Ahead[Prepared] = field(init=False)

    def __post_init__(self) -> None:
        self._ahead = Ahead(self._prepared, self.order.state_dict)

    def prepare(self) -> None:
        """Begin with the next step; the loaders work while the learner does."""
        self._ahead.start()

    def next_batch(self) -> tuple[list[list[MiniBatch]], Counts]:
        """The prepared step: each rank's mini-batches, and the counts of all."""
        batches, total, self._passed_over = self._ahead.take()
        for line in total.skipped:
            log.warning("left out: %s", line)
        self.seen += total.seen
        self.skipped += len(total.skipped)
        return batches, total

    def _prepared(self) -> Prepared:
        batches, total = self.loaders.load(self.order.next_batch(self.loaders.measure))
        # Behind loading: a loader does one after the other.
        self.order.look_ahead(self.loaders.measure)
        return batches, total, self.order.skipped

    def metrics(self, counts: Counts) -> dict[str, float]:
        """Of the step's data; samples and skipped rows are counted from the start of the stage."""
        # The last step of a plan may have fewer packs.
        capacity = counts.packs * self.config.learner.pack_tokens
        skipped = float(self.skipped + self._passed_over)
        return {"data/fill": counts.tokens / capacity, "data/skipped": skipped} | self.seen.metrics()

    def train_step(self, run: Run, step: int) -> dict[str, float]:
        """One update, while the loaders prepare the next step."""
        with run.phase("data"):
            batches, counts = self.next_batch()
        if step < self.config.trainer.steps:
            self.prepare()
        with run.phase("train"):
            [update] = self.learners.update_from(batches)
        log_skipped(step, update["skipped"], counts.rows)
        metrics = {f"train/{name}": value for name, value in update.items()} | self.metrics(counts)
        return metrics | _judged(run, self.watch, step, update["nll"])

    def close(self) -> None:
        """The loaders first: what is prepared ends with them."""
        self.loaders.close()
        self._ahead.close()

    def state_dict(self) -> dict[str, Any]:
        return {
            "order": self._ahead.state_dict(),
            "seen": self.seen.state_dict(),
            "skipped": self.skipped,
            "losses": self.watch.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.order.load_state_dict(state["order"])
        self.seen = Seen.from_state(state["seen"])
        self.skipped = state["skipped"]
        self.watch.load_state_dict(state["losses"])


@logs_refusals
def run_pretrain(config: PretrainConfig) -> dict[str, float]:
    """Run the stage to its last step, from the newest checkpoint if there is one; returns the last step's metrics.

    Raises:
        UserError, RunError: see `pangu_rl.errors`. Preempted: SIGTERM came, a checkpoint was written.
    """
    loader, order = open_stage(config)
    unread = order.state_dict()

    def train() -> dict[str, float]:
        order.load_state_dict(unread)  # where ranks were lost before the first checkpoint
        with open_parts(config, run, loader, order) as parts:
            return train_stage(run, parts, config.trainer.steps)

    begun = begun_with("pretrain", config, resolve_path(config.model.path), {"rows": loader.files.digest})
    with open_run(config, "pre-training", settings=begun) as run:
        for line in loader.files.skipped:
            log.warning("left out: %s", line)
        return with_restarts(run, config.trainer.max_restarts, train)


def open_stage(config: PretrainConfig) -> tuple[PackLoader, Order]:
    """All that the stage reads, before anything is started.

    Raises:
        UserError: a file, a row that may not be skipped, a model folder or a plan that cannot be used.
    """
    data = config.data
    files = open_rows(
        data.row_paths(), on_bad_row=data.on_bad_row, media_root=data.media_path(), passed=data.pass_through
    )
    loader = PackLoader(config, files)
    return loader, open_order(config, loader)


def open_order(config: PretrainConfig, loader: PackLoader) -> Order:
    """The plan of the stage, or packing on the way.

    Raises:
        UserError: a plan that does not fit the stage, shares that do not fit the rows.
    """
    if config.data.plan is None:
        return OnlineOrder(loader.files, config, loader.cost)
    require_plannable(loader.encoder.family)
    reader = PlanReader(resolve_path(config.data.plan))
    _require_same_sizes(reader, config, loader)
    return PlannedOrder(reader, loader.files, config, loader.cost)


def _require_same_sizes(reader: PlanReader, config: PretrainConfig, loader: PackLoader) -> None:
    """
    Raises:
        ConfigError: the stage shows pictures or videos in other sizes than the plan's, or with other frames.
    """
    family, where, settings = loader.encoder.family, reader.directory, reader.manifest["settings"]
    if family is None:
        return
    limits, planned = loader.folder.limits, (settings["min_pixels"], settings["max_pixels"])
    if planned != (limits.min_pixels, limits.max_pixels):
        raise ConfigError(
            f"{where} was packed for pictures of {planned[0]} to {planned[1]} pixels, the stage shows them at "
            f"{limits.min_pixels} to {limits.max_pixels}: set data.min_pixels and data.max_pixels, or pack again"
        )
    keys = ("video_pixels", "frame_min_pixels", "frame_max_pixels")
    for key, shown in zip(keys, astuple(family.video_budget), strict=True):
        if settings[key] != shown:
            raise ConfigError(
                f"{where} was packed with {key} {settings[key]}, the processor of model.path says {shown}: pack again "
                f"with {key}={shown}"
            )
    drawn = reader.manifest["metadata"].get("video_seed")
    if drawn is not None and drawn != config.trainer.seed:
        raise ConfigError(
            f"{where} is of videos whose frames were drawn by trainer.seed {drawn}, the stage's is "
            f"{config.trainer.seed}: set it to {drawn}, or measure and pack again"
        )


@contextmanager
def open_parts(config: PretrainConfig, run: Run, loader: PackLoader, order: Order) -> Iterator[PretrainParts]:
    """Start the learner and its loaders; they end with the context."""
    with (
        run.placed(config) as placement,
        closing(Loaders(config, loader.files, placement)) as loaders,
        open_learners(config, "sft", run, placement) as learners,
    ):
        parts = PretrainParts(
            config=config,
            order=order,
            loaders=loaders,
            learners=learners,
            watch=SpikeWatch(config.trainer.loss_spike),
            skipped=loader.files.left_out,
        )
        with closing(parts):
            yield parts


def _judged(run: Run, watch: SpikeWatch, step: int, loss: float) -> dict[str, float]:
    usual = watch.judge(loss)
    if usual is not None:
        run.say(f"step {step}: the loss {loss:.3f} is a spike, the median of the last steps is {usual:.3f}")
    return {"train/loss_spike": float(usual is not None)}
