"""Files of a user's in the working directory that are called like our packages, in the real command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e import runs


def test_a_users_own_rewards_grade_nothing(tmp_path: Path) -> None:
    (tmp_path / "rewards.py").write_text("raise RuntimeError('the rewards.py of the working directory')\n")
    (tmp_path / "rows.jsonl").write_text('{"prediction": "\\\\boxed{2}", "gold": "2"}\n')
    command = [sys.executable, "-m", "pangu_rl", "score", "--input", "rows.jsonl", "--output", "scored.jsonl"]
    environment = os.environ | {"PYTHONPATH": str(runs.REPO)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "scored.jsonl").read_text())["reward"] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("started", ["pangu-rl", "python -m"])
def test_a_users_own_rewards_and_rollout_hide_nothing(tiny_model: Path, tmp_path: Path, started: str) -> None:
    """Ours are imported, also by the workers; the user's reward is found by its path, and what it imports beside it."""
    for name in ("rewards", "rollout", "pretrain"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('the {name}.py of the working directory')\n")
    (tmp_path / "my_limits.py").write_text("SHARE = 0.5\n")
    (tmp_path / "my_reward.py").write_text(
        "from my_limits import SHARE\n\n\n"
        "def half(prompt, completion):\n    return SHARE + len(completion.token_ids) % 2\n"
    )
    functions = [{"name": "boxed_accuracy", "weight": 0.0}, {"name": "my_reward.py:half"}]
    config = runs.write_config(tmp_path, tiny_model, rewards={"functions": functions}, trainer={"steps": 1})
    command = runs.command("grpo", config, f"trainer.run_dir={tmp_path / 'run'}")
    if started == "pangu-rl":
        command[:3] = [str(Path(command[0]).with_name("pangu-rl"))]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(runs.REPO)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {row["reward"] for row in runs.rollouts(tmp_path / "run")} <= {0.5, 1.5}
