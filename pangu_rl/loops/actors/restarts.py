"""A lost learner rank -> **all ranks anew, from the newest checkpoint**, as the same command would, without it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from pangu_rl.errors import RankLost, RunError
from pangu_rl.loops.session import Run

log = logging.getLogger(__name__)

Result = TypeVar("Result")


def with_restarts(run: Run, limit: int, train: Callable[[], Result]) -> Result:
    """What `train` returns. It starts the ranks, goes on from the newest checkpoint and ends the ranks; when one is
    lost it is called again, at most `limit` times without a new checkpoint between.

    Raises:
        RunError: a rank was lost once too often; names the last one. Preempted: SIGTERM came, and a rank was lost.
    """
    restarts, newest = 0, None
    while True:
        try:
            return train()
        except RankLost as lost:
            before, newest = newest, run.checkpoints.newest_step()
            restarts = restarts + 1 if newest == before else 1
            log.error("%s", lost)
            place = f"from the checkpoint of step {newest}" if newest else "from the beginning: no checkpoint yet"
            if run.preempted:
                raise run.preemption.preempted(f"{lost}; the same command goes on {place}") from None
            if restarts > limit:
                raise RunError(
                    f"{lost}; the ranks had their {limit} restarts (trainer.max_restarts) without a new checkpoint; "
                    f"the same command goes on {place}"
                ) from None
            run.say(f"{lost}; restart {restarts} of {limit}, {place}")
