"""A broadcast that breaks is tried again with the members of the moment, in a fresh group, and not for ever; the probe
tells weights that are not the learner's."""

from __future__ import annotations

import numpy as np
import pytest

from pangu_rl.data.packs.batching import empty_pack
from pangu_rl.errors import BrokenBroadcast, WeightSyncError
from pangu_rl.loops.online.turns import Turns
from pangu_rl.loops.online.weight_sync import ATTEMPTS, Probe, sync_weights

PROBE = Probe(sequences=(), pack=empty_pack(), tolerance=0.1)


class Learners:
    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, ...], bool]] = []

    def publish(self, version, members, fresh=False):
        self.asked.append((members, fresh))
        return f"manifest {version}", []

    def log_probs(self, packs, temperature):
        return [np.array([-1.0, -2.0, -4.0])]


class Pool:
    def __init__(self, breaks: int, scores: list[list[float]] | None = None) -> None:
        self.breaks, self.tries, self.resend = breaks, 0, None
        self.scores = scores or [[-1.0, -2.0], [-4.0]]

    def members(self):
        return (f"engine of try {self.tries}",)

    def sync(self, manifest, sending, resend):
        self.tries += 1
        if self.tries <= self.breaks:
            raise BrokenBroadcast("rollout actors [1] are without weights version 7")
        self.resend = resend

    def score(self, sequences):
        return self.scores


def test_broken_broadcast_is_sent_to_the_new_members_in_a_fresh_group():
    learners, pool = Learners(), Pool(breaks=1)
    assert sync_weights(7, learners, pool, PROBE, Turns(), learner_waits=True) == {"sync/probe_gap": 0.0}
    assert learners.asked == [(("engine of try 0",), False), (("engine of try 1",), True)]
    assert pool.resend(("replaced",)) == ("manifest 7", [])
    assert learners.asked[-1] == (("replaced",), True)


def test_a_learner_that_trains_on_cannot_send_again():
    pool = Pool(breaks=0)
    sync_weights(7, Learners(), pool, PROBE, Turns(), learner_waits=False)
    assert pool.resend is None


def test_broadcasts_that_go_on_breaking_end_the_run():
    pool = Pool(breaks=ATTEMPTS)
    with pytest.raises(BrokenBroadcast, match="without weights version 7"):
        sync_weights(7, Learners(), pool, PROBE, Turns(), learner_waits=True)
    assert pool.tries == ATTEMPTS


def test_the_probe_compares_token_by_token_over_all_sequences() -> None:
    """|-1 + 1.2| + |-2 + 2| + |-4 + 4.4| over three tokens: 0.2 nats."""
    with pytest.raises(WeightSyncError, match=r"differ by 0\.200 nats"):
        sync_weights(7, Learners(), Pool(0, [[-1.2, -2.0], [-4.4]]), PROBE, Turns(), learner_waits=True)
