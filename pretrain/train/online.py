"""Packing on the way: streams of rows, measured ahead -> **the global batch, pack by pack** -> loaders.

One stream for each source or file that has a share; they are packed apart and mixed in every global batch.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.data.files.row_files import RowFiles
from pangu_rl.data.stream import PromptStream
from pangu_rl.errors import ConfigError, DataError
from pretrain.packing.online import OnlinePacker, PacksApart, StreamSample
from pretrain.train.measured import Measure, MeasuredStream
from pretrain.train.order import OrderCost, PackOrder
from pretrain.train.sources import Sources, shares_at

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
        self._config, self._files, self._cost = config, files, cost
        self._streams = {
            name: MeasuredStream(
                PromptStream(rows, shuffle=True, seed=config.trainer.seed, identity=f"{files.digest} {name}"),
                ahead=data.pool,
            )
            for name, rows in Sources(files, data).streams().items()
        }
        packers = {
            name: OnlinePacker(config.learner.pack_tokens, data.visual_tokens, data.pool) for name in self._streams
        }
        self._apart = PacksApart(packers, data.shares_by)
        self._kept: dict[int, Any] = {}
        """Row that waits for its pack -> where it is kept, encoded."""
        self._step = 0
        self.skipped = 0

    def next_batch(self, measure: Measure) -> list[PackOrder]:
        """
        Raises:
            DataError: under `refuse`, a row that cannot be used; none of very many can.
        """
        self._step += 1
        shares = shares_at(self._step, self._config.trainer.steps, self._config.data, list(self._streams))
        for stream in self._streams.values():
            stream.begin(measure)
        batch = []
        for _ in range(self._config.trainer.packs_per_step):
            name = self._apart.next_stream(shares)
            self._fill(name, measure)
            batch.append(self._order(self._apart.take(name, shares)))
        return batch

    def look_ahead(self, measure: Measure) -> None:
        """Ask for the sizes of as many rows as the last batch took."""
        for stream in self._streams.values():
            stream.look_ahead(measure)

    def state_dict(self) -> dict[str, Any]:
        streams = {name: stream.state_dict() for name, stream in self._streams.items()}
        packers = self._apart.state_dict()
        return {"streams": streams, "packers": packers, "step": self._step, "skipped": self.skipped}

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
        self._step, self.skipped = state["step"], state["skipped"]

    def _order(self, pack: Sequence[StreamSample]) -> PackOrder:
        tokens = sum(sample.tokens for sample in pack)
        load = self._cost(
            tokens,
            sum(sample.tokens * (sample.tokens + 1) / 2 for sample in pack),
            sum(sample.patches for sample in pack),
            sum(sample.patch_pairs for sample in pack),
        )
        rows = tuple(int(sample.id) for sample in pack)
        # Rows that waited when the checkpoint was made are kept nowhere: the loader encodes them.
        kept = (self._kept.pop(row, None) for row in rows)
        return PackOrder(rows, load, tokens, tuple(place for place in kept if place is not None))

    def _fill(self, name: str, measure: Measure) -> None:
        """Read from a stream until it has a pack."""
        fruitless = 0
        while not self._apart.ready(name):
            fruitless = 0 if self._feed(name, measure) else fruitless + 1
            if fruitless > FRUITLESS:
                raise DataError(
                    f"{self._files.name}: none of the last {fruitless} rows can be used, the reasons are in the log: "
                    "mend the file, or raise learner.pack_tokens"
                )

    def _feed(self, name: str, measure: Measure) -> bool:
        """Give the stream's next row to its packer; whether it can be packed."""
        sample, kept = self._streams[name].next(measure)
        if isinstance(sample, str):
            if self._config.data.on_bad_row == "refuse":
                raise DataError(f"{sample} (mend it, or set data.on_bad_row to skip)")
            log.warning("left out: %s", sample)
            self.skipped += 1
            return False
        self._kept[int(sample.id)] = kept
        self._apart.add(name, sample)
        return True
