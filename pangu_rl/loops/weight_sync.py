"""learner weights -> **engines, proven**: names complete, tensors hashed as consumed, a probe's log-probs compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pangu_rl.data.batching import pack_conversations
from pangu_rl.data.chat_template import ChatTemplate
from pangu_rl.errors import WeightSyncError
from pangu_rl.loops.learners import Learners
from pangu_rl.records import Pack, Prompt
from rollout.pool import RolloutPool, mean_gap

PROBE_PROMPTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Fixed token sequences that learner and engine score under the same weights."""

    token_ids: tuple[tuple[int, ...], ...]
    packs: tuple[Pack, ...]
    """The same sequences for the learner, one pack each, every token but the first a target."""
    tolerance: float
    """Largest mean |difference| in nats."""

    @classmethod
    def of(cls, prompts: Sequence[Prompt], template: ChatTemplate, tolerance: float) -> Probe:
        rows = tuple(template.encode_prompt(prompt.messages) for prompt in prompts[:PROBE_PROMPTS])
        packs = [pack for ids in rows for pack in pack_conversations([(ids, [True] * len(ids))], len(ids))]
        return cls(token_ids=rows, packs=tuple(packs), tolerance=tolerance)


def sync_weights(version: int, learners: Learners, pool: RolloutPool, probe: Probe) -> dict[str, float]:
    """Publish the learner's weights as `version` and put them into every engine, in place.

    Returns `sync/probe_gap`, the mean |learner - engine| over the probe's tokens in nats.

    Raises:
        WeightSyncError: a name, a digest or the probe differs.
    """
    pool.sync(learners.publish(version))
    ours = [values.tolist() for values in learners.log_probs(probe.packs, temperature=1.0)]
    gap = mean_gap(ours, pool.score(probe.token_ids))
    if not gap <= probe.tolerance:
        raise WeightSyncError(
            f"weights version {version}: learner and engine differ by {gap:.3f} nats on the probe "
            f"(rollout.probe_tolerance {probe.tolerance}): the engine does not compute with the published weights"
        )
    return {"sync/probe_gap": gap}
