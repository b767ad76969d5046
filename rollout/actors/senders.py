"""The learner's end of a broadcast. Ranks that send -> **have they finished, and whose fault is it** -> pool."""

from __future__ import annotations

from collections.abc import Sequence

import ray
from ray.exceptions import RayActorError, RayTaskError

from pangu_rl.errors import BrokenBroadcast, RunError, WeightSyncError, first_line
from pangu_rl.records import WeightManifest
from rollout.actors.slots import Slot

HEALTH_S = 10.0
"""Deadline of a question after an actor's health, and for senders to return once all engines are done."""

SendCall = ray.ObjectRef
"""Of a rank that sends weights."""
Publication = tuple[WeightManifest, list[SendCall]]
"""What was published, and the calls of those who send it."""


class Senders:
    """The ranks' calls that send weights of one version; without any it was no broadcast."""

    def __init__(self, version: int = 0, calls: Sequence[SendCall] = ()) -> None:
        self._version, self._calls = version, list(calls)

    def silent(self, late: Sequence[Slot], silence_s: float) -> Sequence[Slot]:
        """Of slots that have waited too long for their call, those whose process is the cause: in a broadcast the
        others wait for them.

        Raises:
            WeightSyncError: they all live, so it is the sender.
        """
        if not late or not self._calls or not self._unfinished(0.0):
            return late
        silent = unanswering(late)
        if not silent:
            limit = late[0].limit(silence_s)
            raise WeightSyncError(
                f"weights version {self._version}: the learner sent nothing for {limit:g} s, and rollout actors "
                f"{[slot.index for slot in late]} wait for it; the run goes on from its last checkpoint"
            )
        return silent

    def finish(self) -> None:
        """The engines are done, with or without the weights: the senders, who waited for them alone, are done within
        seconds.

        Raises:
            BrokenBroadcast: they are not, or one died; whoever asks them for the next broadcast finds out which.
            RunError: what a rank raised.
        """
        if not self._calls:
            return
        if late := self._unfinished(HEALTH_S):
            ranks = [self._calls.index(call) for call in late]
            raise BrokenBroadcast(f"learner ranks {ranks} have not finished to send weights version {self._version}")
        try:
            ray.get(self._calls)
        except RayActorError as error:
            raise BrokenBroadcast(
                f"weights version {self._version}: a learner rank died: {first_line(error)}"
            ) from None
        except RayTaskError as error:
            raise error.cause if isinstance(error.cause, RunError) else error from None

    def _unfinished(self, timeout: float) -> list[SendCall]:
        return ray.wait(self._calls, num_returns=len(self._calls), timeout=timeout)[1] if self._calls else []


def unanswering(slots: Sequence[Slot]) -> list[Slot]:
    """Those whose processes do not answer within seconds: stopped, or gone."""
    pings = [slot.actor.ping.remote() for slot in slots]
    alive = ray.wait(pings, num_returns=len(pings), timeout=HEALTH_S)[0] if pings else []
    return [slot for slot, ping in zip(slots, pings, strict=True) if ping not in alive]
