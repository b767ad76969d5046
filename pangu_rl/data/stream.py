"""An endless, resumable order over a data set: which rows come next is a function of (seed, epoch, position) alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import xxhash

from pangu_rl.data.permutation import Order, order_of
from pangu_rl.errors import ConfigError, DataError

Row = TypeVar("Row")
NO_PICTURES: Mapping[str, str] = MappingProxyType({})


class PromptStream(Generic[Row]):
    """Hands out `Prompt` (or `Conversation`) records, epoch after epoch, each row once per epoch."""

    left_out: Mapping[str, int] = MappingProxyType({})
    """Rows that were passed over when they were drawn: none, all are sound."""

    def __init__(
        self,
        prompts: Sequence[Row],
        *,
        shuffle: bool,
        seed: int,
        digests: Mapping[str, str] = NO_PICTURES,
        identity: str | None = None,
    ) -> None:
        """`digests`: path -> sha256 of the rows' pictures, which are part of the data's identity. Rows that are not to
        be read for it bring an `identity` of their own.
        """
        if not prompts:
            raise DataError("the data set is empty")
        self._rows = prompts
        self._shuffle, self._seed = shuffle, seed
        self._epoch, self._position = 0, 0
        self._order = self._order_of(0)
        self._fingerprint = fingerprint(prompts, digests) if identity is None else identity

    def next(self, n: int) -> list[tuple[int, Row]]:
        """The next `n` rows, each with its epoch; goes on into the next epoch when one runs out."""
        taken: list[tuple[int, Row]] = []
        while len(taken) < n:
            if self._position == len(self._rows):
                self._epoch, self._position = self._epoch + 1, 0
                self._order = self._order_of(self._epoch)
            indices = self._order[self._position : self._position + n - len(taken)]
            taken += [(self._epoch, self._rows[int(index)]) for index in indices]
            self._position += len(indices)
        return taken

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides what comes next; plain JSON values."""
        return {
            "epoch": self._epoch,
            "position": self._position,
            "seed": self._seed,
            "shuffle": self._shuffle,
            "rows": len(self._rows),
            "fingerprint": self._fingerprint,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken.

        Raises:
            DataError: the data set is not the one of the state.
            ConfigError: the order would be another one, by seed or shuffling.
        """
        if state["fingerprint"] != self._fingerprint:
            raise DataError(
                f"the checkpoint was made with other data: {state['rows']} rows, fingerprint {state['fingerprint']}; "
                f"now {len(self._rows)}, {self._fingerprint}: restore the file, or start in a new run_dir"
            )
        for key, now in (("seed", self._seed), ("shuffle", self._shuffle)):
            if state[key] != now:
                raise ConfigError(
                    f"the checkpoint was made with {key} {state[key]}, now it is {now}: set it back, or start in a new "
                    "run_dir"
                )
        self._epoch, self._position = state["epoch"], state["position"]
        self._order = self._order_of(self._epoch)

    def _order_of(self, epoch: int) -> Order:
        rows = len(self._rows)
        return order_of(rows, (self._seed, epoch)) if self._shuffle else range(rows)


def fingerprint(rows: Sequence[Any], digests: Mapping[str, str] = NO_PICTURES) -> str:
    """xxh3-128 of the records in order, hex: another row, answer, picture or order is another data set."""
    digest = xxhash.xxh3_128()
    for row in rows:
        digest.update(json.dumps(dataclasses.asdict(row), sort_keys=True, default=str).encode())
        for path in (*row.images, *row.videos):
            digest.update(digests[path].encode())
    return digest.hexdigest()
