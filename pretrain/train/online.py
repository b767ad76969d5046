"""Packing on the way: streams of rows, measured ahead -> **the global batch, pack by pack** -> loaders.

One stream for each source that has a share; they are packed apart and mixed in every global batch.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.data.row_files import RowFiles
from pangu_rl.data.stream import PromptStream
from pangu_rl.errors import ConfigError, DataError
from pretrain.packing.cost import PATCHES_PER_TOKEN
from pretrain.packing.online import OnlinePacker, PacksApart, StreamSample
from pretrain.train.measured import Measure, MeasuredStream
from pretrain.train.order import OrderCost, PackOrder

log = logging.getLogger(__name__)
FRUITLESS = 10_000
"""Rows on end that give a stream nothing are a wrong file or context."""


class OnlineOrder:
    """Packs from streams of rows. The state is what has been packed; what is measured ahead is measured again."""

    def __init__(self, files: RowFiles, config: PretrainConfig, cost: OrderCost) -> None:
        """
        Raises:
            ConfigError: shares of sources that no row has.
        """
        data = config.data
        self._files, self._cost = files, cost
        self._refuses = data.on_bad_row == "refuse"
        self._streams = {
            name: MeasuredStream(
                PromptStream(rows, shuffle=True, seed=config.trainer.seed, identity=f"{files.digest} {name}"),
                ahead=data.pool,
            )
            for name, rows in _rows_by_stream(files, data.shares).items()
        }
        packers = {
            name: OnlinePacker(config.learner.pack_tokens, data.visual_tokens, data.pool) for name in self._streams
        }
        shares = {name: data.shares.get(name, 1.0) for name in self._streams}
        self._apart = PacksApart(packers, shares, config.trainer.packs_per_step)
        self._kept: dict[int, Any] = {}
        """Row that waits for its pack -> where it is kept, encoded."""
        self.skipped = 0

    def next_batch(self, measure: Measure) -> list[PackOrder]:
        """
        Raises:
            DataError: under `refuse`, a row that cannot be used; none of very many can.
        """
        fruitless = 0
        while lacking := self._apart.lacking():
            for name in lacking:
                fruitless = 0 if self._feed(name, measure) else fruitless + 1
            if fruitless > FRUITLESS:
                raise DataError(
                    f"{self._files.name}: none of the last {fruitless} rows can be used, the reasons are in the log: "
                    "mend the file, or raise learner.pack_tokens"
                )
        return [self._order(pack) for _, pack in self._apart.take()]

    def look_ahead(self, measure: Measure) -> None:
        """Ask for the sizes of as many rows as the last batch took."""
        for stream in self._streams.values():
            stream.look_ahead(measure)

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
        self._kept.clear()
        self.skipped = state["skipped"]

    def _order(self, pack: Sequence[StreamSample]) -> PackOrder:
        tokens = sum(sample.tokens for sample in pack)
        load = self._cost(
            tokens,
            sum(sample.tokens * (sample.tokens + 1) / 2 for sample in pack),
            PATCHES_PER_TOKEN * sum(sample.visual_tokens for sample in pack),
            sum(sample.patch_pairs for sample in pack),
        )
        rows = tuple(int(sample.id) for sample in pack)
        # Rows that waited when the checkpoint was made are kept nowhere: the loader encodes them.
        return PackOrder(rows, load, tokens, tuple(self._kept.pop(row) for row in set(rows) if row in self._kept))

    def _feed(self, name: str, measure: Measure) -> bool:
        """Give the stream's next row to its packer; whether it can be packed."""
        sample, kept = self._streams[name].next(measure)
        if isinstance(sample, str):
            if self._refuses:
                raise DataError(f"{sample} (mend it, or set data.on_bad_row to skip)")
            log.warning("left out: %s", sample)
            self.skipped += 1
            return False
        self._kept[int(sample.id)] = kept
        self._apart.add(name, sample)
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
