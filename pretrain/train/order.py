"""Which rows a step trains on: a plan, or packing online -> **the global batch, pack by pack** -> loaders.

Only identities and sizes are known here. The order is that of the whole stage: which rank takes which pack is decided
afterwards, so a run goes on with another number of ranks as it would have with the first. The state is all that has
been consumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.data.files.row_files import RowFiles
from pangu_rl.data.packs.micro_batches import BY_TOKENS, Dealing
from pangu_rl.errors import ConfigError, DataError
from pretrain.packing.cost import OPENPANGU_VIT, PATCHES_PER_TOKEN
from pretrain.packing.metadata import file_sha256
from pretrain.packing.plan_file import MANIFEST, PlannedPack, PlanReader
from pretrain.train.measured import Measure

CHECKED_GROUPS = 64
"""Parts of a plan, a thousand packs each, whose rows are looked for before the start: those of others when they are
due."""


@dataclass(frozen=True, slots=True)
class PackOrder:
    """A pack before it is read: indices into the `RowFiles`."""

    rows: tuple[int, ...]
    load: float
    """FLOPs of training on it, as well as sizes alone tell."""
    tokens: int = 0
    kept: tuple[Any, ...] = field(default=(), compare=False)
    """Where rows of it are that were encoded when they were measured: mappings from row numbers, or handles to such."""


class OrderCost(Protocol):
    """FLOPs of training on a pack that has not been read: the order's `load`."""

    def __call__(self, tokens: int, token_pairs: float, patches: int, patch_pairs: float) -> float: ...


class Order(Protocol):
    """Hands out global batches, step after step."""

    skipped: int
    """Rows left out before they came into a pack."""

    def next_batch(self, measure: Measure) -> list[PackOrder]:
        """`measure` is asked for sizes that are not known."""

    def look_ahead(self, measure: Measure) -> None:
        """Begin to measure what the next batch will need; changes no state."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


def deal_packs(batch: list[PackOrder], ranks: int, dealing: Dealing = BY_TOKENS) -> list[list[list[PackOrder]]]:
    """[rank (or group of ranks that share packs)][micro-batch] -> its packs; ranks have equally many micro-batches."""
    shared = dealing.share([order.tokens for order in batch], [order.load for order in batch], ranks)
    return [[[batch[number] for number in numbers] for numbers in own] for own in shared]


class PlannedOrder:
    """The steps of a plan, epoch after epoch."""

    skipped = 0

    def __init__(self, reader: PlanReader, files: RowFiles, config: PretrainConfig, cost: OrderCost) -> None:
        """
        Raises:
            ConfigError: the plan is for other packs than the stage. DataError: it names rows that are not there.
        """
        _check_plan(reader, files, config)
        self._reader, self._files, self._cost = reader, files, cost
        self._digest = file_sha256(reader.directory / MANIFEST)
        self._data = files.digest
        self._step = 0

    def next_batch(self, measure: Measure | None = None) -> list[PackOrder]:
        packs = self._reader.packs(self._step % self._reader.steps)
        self._step += 1
        return [self._order(pack) for pack in packs]

    def look_ahead(self, measure: Measure) -> None:
        """Nothing: a plan has the sizes."""

    def state_dict(self) -> dict[str, Any]:
        return {"plan": self._digest, "data": self._data, "step": self._step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """
        Raises:
            DataError: the state is of another plan or other rows.
        """
        for name, now in (("plan", self._digest), ("data", self._data)):
            if state.get(name) != now:
                raise DataError(
                    f"the checkpoint was made with {name} of digest {state.get(name)}, now it is {now}: restore it, or "
                    "start in a new run_dir"
                )
        self._step = state["step"]

    def _order(self, pack: PlannedPack) -> PackOrder:
        patches = PATCHES_PER_TOKEN * pack.visual_tokens
        load = self._cost(pack.tokens, pack.token_pairs, patches, OPENPANGU_VIT.pairs(pack.visual_flops, patches))
        return PackOrder(tuple(_rows_of(self._reader, self._files, list(map(str, pack.ids)))), load, pack.tokens)


def _check_plan(reader: PlanReader, files: RowFiles, config: PretrainConfig) -> None:
    where, settings = reader.directory, reader.manifest["settings"]
    if not reader.steps:
        raise ConfigError(
            f"{where}: a plan without a step: use fewer ranks or a smaller global batch in `pangu-rl pack`"
        )
    if reader.manifest["step_packs"] != config.trainer.packs_per_step:
        raise ConfigError(
            f"{where} has {reader.manifest['step_packs']} packs a step, trainer.packs_per_step is "
            f"{config.trainer.packs_per_step}: make them the same"
        )
    if settings["context"] > config.learner.pack_tokens:
        raise ConfigError(
            f"{where} has packs of {settings['context']} tokens, learner.pack_tokens is {config.learner.pack_tokens}: "
            "raise it, or pack again"
        )
    visual, most = settings["visual_tokens"] or settings["context"], config.data.visual_tokens
    if most is not None and visual > most:
        raise ConfigError(
            f"{where} has packs of up to {visual} visual tokens, data.visual_tokens is {most}: raise it, or pack again "
            f"by `pangu-rl pack` with data.visual_tokens={most}"
        )
    for ids in reader.some_ids(CHECKED_GROUPS):
        _rows_of(reader, files, ids)


def _rows_of(reader: PlanReader, files: RowFiles, ids: Sequence[str]) -> list[int]:
    """
    Raises:
        DataError: one of them is no row's.
    """
    rows = files.rows_of(ids).tolist()
    if -1 in rows:
        strange = ids[rows.index(-1)]
        raise DataError(
            f"{reader.directory} names sample {strange!r}, which {files.name} has not: the plan is of other rows"
        )
    return rows
