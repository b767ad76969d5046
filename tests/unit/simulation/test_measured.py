"""Constants from runs: a run whose seconds the model itself made gives its constants back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pangu_rl.config.load import dump_config, load_config
from pangu_rl.config.stages import GrpoConfig
from pangu_rl.errors import DataError
from pangu_rl.simulation.lengths import DrawnGroup
from pangu_rl.simulation.measured import MeasuredRun, MeasuredStep, fit, read_run, rollout_parts, train_parts
from pangu_rl.simulation.placements import Case
from pangu_rl.simulation.rates import Constants
from rollout.store import RolloutStore
from tests.contracts.source_tree import ROOT
from tests.unit.rollout.stored import SAMPLING, Answer, Asked, made_group
from tests.unit.simulation.test_placements import case, cluster

TRUTH = Constants(step_s=0.03, sequence_s=0.002, learner_share=0.3, update_s=0.7, sync_s=0.0, sync_gb_s=4.0)
PEAK = 280e12


def made_run(folder: Path, own: Case, seed: int, prompts: int) -> Path:
    """Four steps of as many `prompts`; the second is disturbed, the first warms up."""
    rng = np.random.default_rng(seed)
    config = own.config.model_copy(
        update={"trainer": own.config.trainer.model_copy(update={"run_dir": str(folder), "prompts_per_step": prompts})}
    )
    folder.mkdir()
    (folder / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    store, rows = RolloutStore(folder), []
    own = replace(own, config=config, constants=TRUTH, facts=own.facts.model_copy(update={"tflops": PEAK / 1e12}))
    for step in range(1, 5):
        asked = [
            Asked(uid=f"p{n}", answers=[Answer(text="x", tokens=int(length)) for length in rng.integers(3, 60, 4)])
            for n in range(prompts)
        ]
        store.append(step, [replace(made_group(one, step), advantages=[1.0] * 4) for one in asked], SAMPLING)
        groups = [DrawnGroup(2, tuple(answer.tokens for answer in one.answers)) for one in asked]
        rows.append({"step": step} | seconds_of(own, groups, slower={1: 10.0, 2: 3.0}.get(step, 1.0)))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def seconds_of(own: Case, groups: list[DrawnGroup], slower: float) -> dict[str, float]:
    step = MeasuredStep(groups=groups, trained=groups, rollout_s=1, train_s=1, sync_s=1, peak_flops=PEAK)
    run = MeasuredRun(config=own.config, steps=[step])
    rest, steps, made = rollout_parts(own, run, step)
    other, arithmetic, updates = train_parts(own, run, step)
    return {
        "time/rollout": (rest + steps * TRUTH.step_s + made * TRUTH.sequence_s) * slower,
        "time/train": (other + arithmetic / TRUTH.learner_share + updates * TRUTH.update_s) * slower,
        "time/sync": own.model.weight_bytes / 4e9,
        "speed/train_tflops": 100.0,
        "speed/mfu": 100e12 / PEAK,
    }


def test_a_run_gives_its_constants_back(tmp_path):
    own = case(cluster(1, 2))
    runs = [
        read_run(made_run(tmp_path / name, own, seed, prompts)) for name, seed, prompts in (("a", 1, 4), ("b", 2, 48))
    ]
    found = fit(own, runs)
    assert found.facts.tflops == pytest.approx(PEAK / 1e12)
    assert found.constants.step_s == pytest.approx(TRUTH.step_s, rel=1e-3)
    assert found.constants.sequence_s == pytest.approx(TRUTH.sequence_s, rel=1e-3)
    assert found.constants.learner_share == pytest.approx(TRUTH.learner_share, rel=1e-3)
    assert found.constants.update_s == pytest.approx(TRUTH.update_s, rel=1e-3)
    assert found.constants.sync_gb_s == pytest.approx(4.0)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"has no metrics\.jsonl and config\.yaml"):
        read_run(tmp_path)


def test_a_stale_run_is_refused(tmp_path):
    config = load_config(
        GrpoConfig,
        ROOT / "configs/quickstart/grpo_text.yaml",
        ["trainer.max_staleness=1", "algorithm.correction.high=2.0"],
    )
    (tmp_path / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    (tmp_path / "metrics.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="phases overlap"):
        read_run(tmp_path)
