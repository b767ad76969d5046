"""Runs of the real command on the two-layer model, for the end-to-end tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import yaml
from safetensors.torch import load_file

REPO = Path(__file__).parents[2]
REWARD = f"{REPO}/tests/e2e/drawn_reward.py:drawn"


def write_config(folder: Path, model: Path, **sections: dict[str, Any]) -> Path:
    """A GRPO configuration of seconds: 2 prompts of 4 completions a step, 16 tokens each."""
    rows = [{"id": f"p{i}", "prompt": f"What is {i} + {i + 3}?", "answer": str(2 * i + 3)} for i in range(12)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tree: dict[str, Any] = {
        "model": {"path": str(model)},
        "data": {"train": str(folder / "prompts.jsonl"), "max_prompt_tokens": 96},
        "rollout": {
            "completions": 4,
            "max_new_tokens": 16,
            "max_model_tokens": 128,
            "max_concurrent": 16,
            "kv_cache_gib": 0.1,
            "prefix_caching": True,
        },
        "rewards": {"functions": [{"name": "boxed_accuracy", "weight": 0.0}, {"name": REWARD}]},
        "algorithm": {"mini_batches": 1},
        "learner": {"optimizer": {"lr": 1e-3}, "pack_tokens": 256},
        "trainer": {"run_dir": str(folder / "run"), "steps": 2, "prompts_per_step": 2},
        "monitoring": {"tensorboard": False},
        "cluster": {"object_store_gib": 0.1},
    }
    for name, section in sections.items():
        tree[name] = {**tree.get(name, {}), **section}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def command(stage: str, config: Path, *overrides: str) -> list[str]:
    return [sys.executable, "-m", "pangu_rl", stage, "--config", str(config), *overrides]


def run(stage: str, config: Path, *overrides: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        command(stage, config, *overrides), cwd=REPO, capture_output=True, text=True, timeout=timeout, check=False
    )


def run_until_killed(stage: str, config: Path, when: Callable[[], bool], timeout: float = 600) -> None:
    """Start the command and, once `when()` holds, kill its whole process tree with SIGKILL."""
    process = subprocess.Popen(
        command(stage, config), cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + timeout
    try:
        while not when():
            assert process.poll() is None, f"ended with {process.returncode} before the kill"
            assert time.monotonic() < deadline, "the moment to kill never came"
            time.sleep(0.002)
    finally:
        with suppress(psutil.NoSuchProcess):  # it ended by itself
            driver = psutil.Process(process.pid)
            for victim in [driver, *driver.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    victim.kill()
        process.wait()


def metrics(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def timeless(row: dict[str, Any]) -> dict[str, Any]:
    """A row of metrics without what the clock says: the same of two runs that do the same."""
    return {k: v for k, v in row.items() if not k.startswith(("time/", "speed/")) and k != "data/wait_share"}


def rollouts(run_dir: Path) -> list[dict[str, Any]]:
    """Stored rows of all steps: who was asked, what was drawn, what it earned."""
    rows = []
    for shard in sorted((run_dir / "rollouts").glob("*.parquet")):
        table = pq.read_table(shard)
        names = ["step", "completion_uid", "token_ids", "logprobs", "reward", "advantage", "weight_version"]
        rows += table.select(names).to_pylist()
    return rows


def learner_logprobs(run_dir: Path) -> dict[tuple[int, str], list[float]]:
    """By step and completion, of those that were trained on."""
    table = pq.read_table(run_dir / "rollouts" / "learner").to_pylist()
    return {(row["step"], row["completion_uid"]): row["learner_logprobs"] for row in table}


def weights(run_dir: Path, step: int) -> dict[str, Any]:
    return load_file(run_dir / "checkpoints" / f"step_{step:06d}" / "hf" / "model.safetensors")


os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
