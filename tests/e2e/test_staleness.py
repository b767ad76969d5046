"""Drawing ahead for real: no token too old, and a run that is killed trains every prompt once all the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.e2e import runs

STEPS, PROMPTS, STALENESS = 7, 2, 2


@pytest.mark.slow
def test_killed_with_answers_in_flight_trains_every_prompt_once(tiny_model: Path, tmp_path: Path) -> None:
    """kill -9 of the whole tree while step 5 trains; the checkpoint is of step 3. What it holds is not drawn anew."""
    config = runs.write_config(
        tmp_path,
        tiny_model,
        rollout={"actors": 2, "kv_cache_gib": 0.05, "max_new_tokens": 32},
        algorithm={"correction": {"high": 2.0}, "dynamic_sampling": {"enabled": False}},
        trainer={
            "steps": STEPS,
            "prompts_per_step": PROMPTS,
            "max_staleness": STALENESS,
            "checkpoint_every": 3,
            "keep_checkpoints": 9,
        },
    )
    run_dir = tmp_path / "run"
    checkpoint = run_dir / "checkpoints" / "step_000003"
    stored = run_dir / "rollouts" / "step_000005.parquet"
    runs.run_until_killed("grpo", config, when=lambda: stored.exists() and checkpoint.exists())
    kept = pq.read_table(checkpoint / "in_flight.parquet").to_pylist()
    done = runs.run("grpo", config)
    assert done.returncode == 0, done.stderr

    rows = runs.rollouts(run_dir)
    answers = Counter(row["completion_uid"] for row in rows)
    assert set(answers.values()) == {1}
    groups = [uid.rpartition("/")[0] for uid in answers]
    assert Counter(groups) == dict.fromkeys(groups, 4)
    # 12 prompts, 14 groups: the whole first epoch, and two of the second.
    assert len(set(groups)) == STEPS * PROMPTS
    assert {group for group in groups if group.startswith("0:")} == {f"0:p{i}" for i in range(12)}

    drawn = {row["completion_uid"]: row["token_ids"] for row in rows}
    assert any(row["token_ids"] for row in kept), "nothing was in flight: the kill proves nothing"
    for row in kept:
        assert drawn[row["uid"]][: len(row["token_ids"])] == row["token_ids"]
    ages = [row["rollout/staleness_max"] for row in runs.metrics(run_dir)]
    assert max(ages) > 0 and max(ages) <= STALENESS
