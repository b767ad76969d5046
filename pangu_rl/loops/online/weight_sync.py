"""learner weights -> **engines, proven**: names complete, tensors hashed as consumed, a probe's log-probs compared."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

from pangu_rl.data.packs.batching import pack_conversations
from pangu_rl.errors import BrokenBroadcast, WeightSyncError
from pangu_rl.loops.actors.learners import Learners
from pangu_rl.loops.online.turns import Turns
from pangu_rl.loops.pictures import RowLoader
from pangu_rl.records import Pack, Prompt, Scorable
from rollout.pool import RolloutPool
from rollout.probe import mean_gap

log = logging.getLogger(__name__)

PROBE_PROMPTS = 2
ATTEMPTS = 3
"""Broadcasts of one version, each to a group made anew, before members that go on leaving end the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Fixed token sequences that learner and engine score under the same weights."""

    sequences: tuple[Scorable, ...]
    pack: Pack
    """The same sequences for the learner, every token but the first of each a target; one, since a pass of ZeRO 3
    gathers all weights."""
    tolerance: float
    """Largest mean |difference| in nats."""

    @classmethod
    def of(cls, prompts: Sequence[Prompt], loader: RowLoader, tolerance: float) -> Probe:
        """The first prompt with pictures or videos, if there is one, and the first others: it proves the tower too."""
        shown = [prompt for prompt in prompts if prompt.images or prompt.videos][:1]
        others = [prompt for prompt in prompts[: PROBE_PROMPTS + 1] if prompt not in shown]
        rows = [
            replace(row, trained=(True,) * len(row.token_ids))
            for row in loader.prompts([*shown, *others][:PROBE_PROMPTS])
        ]
        [pack] = pack_conversations(rows, sum(len(row.token_ids) for row in rows), loader.encoder.placeholders)
        return cls(
            sequences=tuple(Scorable(token_ids=tuple(row.token_ids), pictures=row.pictures) for row in rows),
            pack=pack,
            tolerance=tolerance,
        )


def sync_weights(
    version: int, learners: Learners, pool: RolloutPool, probe: Probe, turns: Turns, *, learner_waits: bool
) -> dict[str, float]:
    """Publish the learner's weights as `version` and put them into every engine, in place.

    A learner that waits while engines draw keeps these weights so long, and sends them again to an engine that has to
    be replaced. Where it trains on meanwhile, an engine replaced under broadcast waits for the next version.

    Returns `sync/probe_gap`, the mean |learner - engine| over the probe's tokens in nats.

    Raises:
        WeightSyncError: a name, a digest or the probe differs.
    """
    turns.train()
    [ours] = learners.log_probs([probe.pack], temperature=1.0)
    for left in reversed(range(ATTEMPTS)):
        try:
            manifest, sending = learners.publish(version, pool.members(), fresh=left < ATTEMPTS - 1)
            turns.load()
            again = functools.partial(learners.publish, version, fresh=True)
            pool.sync(manifest, sending, again if learner_waits else None)
            break
        except BrokenBroadcast as error:
            if not left:
                raise
            log.warning("%s; version %d is sent again", error, version)
    gap = mean_gap([ours.tolist()], [list(chain(*pool.score(probe.sequences)))])
    if not gap <= probe.tolerance:
        raise WeightSyncError(
            f"weights version {version}: learner and engine differ by {gap:.3f} nats on the probe "
            f"(rollout.probe_tolerance {probe.tolerance}): the engine does not compute with the published weights"
        )
    return {"sync/probe_gap": gap}
