"""Whose turn it is on the devices. Loop -> **turns** -> engines sleep and the learner trains, or the other way round.

The loop says what it is about to do. With devices of their own (`rollout.placement: split`) both are always ready; on
shared ones whoever had them leaves first, so that never both are there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from pangu_rl.loops.actors.learners import Learners
from rollout.pool import RolloutPool


class Turns:
    """Of engines and a learner that have devices of their own: nobody waits."""

    def draw(self) -> None:
        """The engines are about to draw or to score, under the last sync's weights."""

    def train(self) -> None:
        """The learner is about to train, to publish, to save or to load."""

    def load(self) -> None:
        """The engines are about to load what the learner has just published into host memory."""


class SharedTurns(Turns):
    """Of engines and a learner on the same devices; begins with the learner's turn, the engines asleep."""

    def __init__(
        self, pool: RolloutPool, learners: Learners, phase: Callable[..., AbstractContextManager[None]]
    ) -> None:
        """`phase` is the run's: it times a change of turns, which SIGTERM does not end halfway. What the signal leaves
        then still has one owner of the devices, and a checkpoint can be written."""
        self._pool, self._learners = pool, learners
        self._switching = partial(phase, "switch", whole=True)
        self._drawing = False

    def draw(self) -> None:
        if not self._drawing:
            with self._switching():
                self._to_engines()
                self._pool.reload()

    def train(self) -> None:
        if self._drawing:
            with self._switching():
                self._pool.sleep()
                self._learners.to_device()
            self._drawing = False

    def load(self) -> None:
        if not self._drawing:
            with self._switching():
                self._to_engines()

    def _to_engines(self) -> None:
        self._learners.to_host()
        self._pool.wake()
        self._drawing = True
