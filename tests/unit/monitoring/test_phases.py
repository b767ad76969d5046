"""What a phase waits for, as a person sees it."""

from __future__ import annotations

from pangu_rl.monitoring.phases import Phase, Progress


def test_progress_is_of_the_most_that_was_outstanding():
    """Five are asked for, one is done, three more are asked for: seven were outstanding at once."""
    left = iter([5, 4, 7, 6, 0])
    phase = Phase(name="rollout", started=0.0, waiting=tuple, whole=False, outstanding=lambda: next(left))
    progress = Progress()
    assert [progress.of(phase) for _ in range(5)] == ["0 of 5", "1 of 5", "0 of 7", "1 of 7", "7 of 7"]
    assert progress.of(Phase(name="train", started=1.0, waiting=tuple, whole=True)) == ""
