"""Which rows a step trains on: a plan, or packing on the way -> **the global batch, pack by pack** -> loaders.

Only identities and sizes are known here. The order is that of the whole stage: which rank takes which pack is decided
afterwards, so a run goes on with another number of ranks as it would have with the first. The state is all that has
been consumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.data.micro_batches import BY_TOKENS, Dealing
from pangu_rl.data.row_files import RowFiles
from pangu_rl.data.rows import evenly
from pangu_rl.data.stream import PromptStream
from pangu_rl.errors import ConfigError, DataError
from pretrain.packing.cost import OPENPANGU_VIT, PATCHES_PER_TOKEN
from pretrain.packing.metadata import file_sha256
from pretrain.packing.online import OnlinePacker, PacksApart, StreamSample
from pretrain.packing.plan_file import MANIFEST, PACKS, PlannedPack, PlanReader

CHECKED_GROUPS = 64
"""Parts of a plan, a thousand packs each, whose rows are looked for before the start: those of others when they are
due."""
FRUITLESS = 10_000
"""Rows on end that give a stream nothing are a wrong file or context."""


@dataclass(frozen=True, slots=True)
class PackOrder:
    """A pack before it is read: indices into the `RowFiles`."""

    rows: tuple[int, ...]
    load: float
    """FLOPs of training on it, as well as sizes alone tell."""
    tokens: int = 0


class OrderCost(Protocol):
    """FLOPs of training on a pack that has not been read: the order's `load`."""

    def __call__(self, tokens: int, token_pairs: float, patches: int, patch_pairs: float) -> float: ...


class Order(Protocol):
    """Hands out global batches, step after step."""

    skipped: int
    """Rows left out before they came into a pack."""

    def next_batch(self) -> list[PackOrder]: ...

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

    def next_batch(self) -> list[PackOrder]:
        packs = self._reader.packs(self._step % self._reader.steps)
        self._step += 1
        return [self._order(pack) for pack in packs]

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


class OnlineOrder:
    """Packs from streams of rows, one per source that has a share, packed apart and mixed in every global batch."""

    def __init__(
        self,
        files: RowFiles,
        config: PretrainConfig,
        measure: Callable[[int], tuple[int, int, int] | None],
        cost: OrderCost,
    ) -> None:
        """`measure`: row index -> (tokens, visual tokens, pairs of patches within a frame) of a row that fits, or None
        for one that is left out.

        Raises:
            ConfigError: shares of sources that no row has.
        """
        self._files, self._measure, self._cost = files, measure, cost
        self._streams = {
            name: PromptStream(rows, shuffle=True, seed=config.trainer.seed, identity=f"{files.digest} {name}")
            for name, rows in _rows_by_stream(files, config.data.shares).items()
        }
        packers = {name: OnlinePacker(config.learner.pack_tokens, pool=config.data.pool) for name in self._streams}
        shares = {name: config.data.shares.get(name, 1.0) for name in self._streams}
        self._apart = PacksApart(packers, shares, config.trainer.packs_per_step)
        self.skipped = 0

    def next_batch(self) -> list[PackOrder]:
        fruitless = 0
        while lacking := self._apart.lacking():
            for name in lacking:
                fruitless = 0 if self._feed(name) else fruitless + 1
            if fruitless > FRUITLESS:
                raise DataError(
                    f"{self._files.name}: none of the last {fruitless} rows can be used, the reasons are in the log: "
                    "mend the file, or raise learner.pack_tokens"
                )
        return [self._order(pack) for _, pack in self._apart.take()]

    def state_dict(self) -> dict[str, Any]:
        streams = {name: stream.state_dict() for name, stream in self._streams.items()}
        return {"streams": streams, "packers": self._apart.state_dict(), "skipped": self.skipped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """
        Raises:
            DataError, ConfigError: the state is of other rows, shares or another seed.
        """
        if "streams" not in state or set(state["streams"]) != set(self._streams):
            raise ConfigError(
                f"the checkpoint has streams {sorted(state.get('streams', ['of a plan']))}, this run "
                f"{sorted(self._streams)}: set data.plan and data.shares back, or start in a new run_dir"
            )
        for name, stream in self._streams.items():
            stream.load_state_dict(state["streams"][name])
        self._apart.load_state_dict(state["packers"])
        self.skipped = state["skipped"]

    def _order(self, pack: Sequence[StreamSample]) -> PackOrder:
        tokens = sum(sample.tokens for sample in pack)
        load = self._cost(
            tokens,
            sum(sample.tokens * (sample.tokens + 1) / 2 for sample in pack),
            PATCHES_PER_TOKEN * sum(sample.visual_tokens for sample in pack),
            sum(sample.patch_pairs for sample in pack),
        )
        return PackOrder(tuple(int(sample.id) for sample in pack), load, tokens)

    def _feed(self, name: str) -> bool:
        """Give the stream's next row to its packer; whether it can be packed."""
        [(_, row)] = self._streams[name].next(1)
        size = self._measure(row)
        if size is None:
            self.skipped += 1
            return False
        self._apart.add(name, StreamSample(row, *size))
        return True


def _rows_by_stream(files: RowFiles, shares: Mapping[str, float]) -> dict[str, Sequence[int]]:
    if not shares:
        return {"": range(len(files))}
    there = files.index.sources
    if strange := [name for name in there if name not in shares]:
        where = files.where(files.index.of_source(strange[0])[0])
        raise ConfigError(
            f"{where} has source {strange[0]!r}, which data.shares does not name: give it a share, or 0 to leave it out"
        )
    if empty := [name for name, share in shares.items() if share and name not in there]:
        raise ConfigError(f"data.shares.{empty[0]} is {shares[empty[0]]:g}, but no row of {files.name} has that source")
    return {name: files.index.of_source(name) for name, share in shares.items() if share}


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
    with pq.ParquetFile(where / PACKS) as plan:
        for group in evenly(range(plan.num_row_groups), CHECKED_GROUPS):
            ids = plan.read_row_group(group, columns=["ids"])["ids"].combine_chunks().flatten()
            _rows_of(reader, files, ids.cast(pa.string()).to_pylist())


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
