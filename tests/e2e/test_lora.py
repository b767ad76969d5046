"""Adapters from the command line: GRPO with engines, SFT and DPO, a resume to the bit, checkpoints of their size alone,
`merge`, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from pangu_rl.cli import app
from tests.builders import build_tiny_model
from tests.e2e import recipe_runs
from tests.e2e.runs import REPO, metrics, rollouts, run, write_config

LEARNER = {"lora": {"rank": 8, "alpha": 16.0}, "optimizer": {"lr": 1e-2}, "pack_tokens": 256}
PATIENCE_S = 600
QUIET = {"monitoring": {"tensorboard": False}, "cluster": {"object_store_gib": 0.1}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model"))


def checkpoint(folder: Path, step: int) -> Path:
    return folder / "run" / "checkpoints" / f"step_{step:06d}"


def adapter(folder: Path, step: int) -> bytes:
    return (checkpoint(folder, step) / "adapter" / "adapter_model.safetensors").read_bytes()


def write_stage(folder: Path, model: Path, rows: list[dict[str, str]], trainer: dict[str, Any]) -> Path:
    """A configuration of SFT or DPO on `rows`."""
    folder.mkdir(exist_ok=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tree = {
        "model": {"path": str(model)},
        "data": {"train": str(folder / "rows.jsonl"), "max_tokens": 128},
        "learner": LEARNER,
        "trainer": {"run_dir": str(folder / "run"), "steps": 2, **trainer},
        **QUIET,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def sft_rows() -> list[dict[str, str]]:
    return [{"id": f"s{i}", "prompt": f"And {i}?", "response": f"\\boxed{{{i}}}"} for i in range(8)]


def train(stage: str, config: Path, *overrides: str) -> None:
    done = run(stage, config, *overrides, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr


def complaint(stage: str, config: Path, *overrides: str) -> str:
    done = run(stage, config, *overrides, timeout=PATIENCE_S)
    assert done.returncode == 2, done.stderr
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_sft_resumes_to_the_bit_and_folds(model: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    configs = {folder: write_stage(folder, model, sft_rows(), {"sequences_per_step": 4}) for folder in (whole, cut)}
    train("sft", configs[whole])
    train("sft", configs[cut], "trainer.steps=1")
    refused = complaint("sft", configs[cut], "learner.lora.rank=4")
    assert "was begun with learner.lora.rank 8, now it is 4: set it back, or another run_dir" in refused
    train("sft", configs[cut])
    assert adapter(cut, 2) == adapter(whole, 2) != adapter(cut, 1)

    written = sum(file.stat().st_size for file in checkpoint(whole, 2).rglob("*") if file.is_file())
    assert written < (model / "model.safetensors").stat().st_size / 5, "no frozen weight, and no state of one"
    assert not (checkpoint(whole, 2) / "hf").exists()

    folded = tmp_path / "folded"
    done = CliRunner().invoke(app, ["merge", str(whole / "run"), "--steps", "2", "--output", str(folded)])
    assert done.exit_code == 0 and "folded into its base model" in done.stdout
    base, made = load_file(model / "model.safetensors"), load_file(folded / "model.safetensors")
    assert made.keys() == base.keys()
    changed = {name for name in base if not torch.equal(base[name], made[name])}
    assert changed == {name for name in base if name.endswith("_proj.weight")}
    assert json.loads((folded / "merge.json").read_text())["inputs"][0]["base"] == str(model)


def test_a_target_that_no_layer_has_is_one_line(model: Path, tmp_path: Path) -> None:
    config = write_stage(tmp_path / "sft", model, sft_rows(), {"sequences_per_step": 4})
    line = complaint("sft", config, "learner.lora.targets=[q_prj]")
    assert "learner.lora.targets: no linear layer is named q_prj; there are down_proj, gate_proj" in line


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 3])
def test_dpo_starts_at_its_reference_and_leaves_it(model: Path, tmp_path: Path, stage: int) -> None:
    """log 2 at the start, where policy and reference are one model; the reference is taken with adapters off."""
    pairs = [
        {"id": f"p{i}", "prompt": f"Which, {i}?", "chosen": f"\\boxed{{{i}}}", "rejected": "I do not know."}
        for i in range(8)
    ]
    config = write_stage(tmp_path / "dpo", model, pairs, {"pairs_per_step": 4})
    train("dpo", config, f"learner.zero_stage={stage}")
    first, second = metrics(tmp_path / "dpo" / "run")
    assert first["train/loss_preference"] == pytest.approx(math.log(2), abs=1e-6)
    assert second["train/loss_preference"] < 0.69


@pytest.mark.slow
@pytest.mark.parametrize("in_engines", ["folded", "apart"])
def test_grpo_samples_with_the_adapter_and_resumes_to_the_bit(model: Path, tmp_path: Path, in_engines: str) -> None:
    """Every sync compares names, digests, and the engine's log-probs with the learner's: a run that goes on has passed
    all. bf16: the learner adds B A x to W x, an engine that folds rounds W + B A first, a last digit of each weight."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    configs = {}
    for folder in (whole, cut):
        folder.mkdir()
        learner = LEARNER | {"lora": LEARNER["lora"] | {"in_engines": in_engines}}
        configs[folder] = write_config(folder, model, learner=learner, algorithm={"mini_batches": 1, "kl_weight": 0.01})
    train("grpo", configs[whole])
    rows = metrics(whole / "run")
    assert [row["sync/probe_gap"] < 0.05 for row in rows if "sync/probe_gap" in row] == [True, True]
    assert rows[-2]["train/kl_reference"] == 0 < rows[-1]["train/kl_reference"]

    train("grpo", configs[cut], "trainer.steps=1")
    train("grpo", configs[cut])
    assert rollouts(cut / "run") == rollouts(whole / "run")
    assert adapter(cut, 2) == adapter(whole, 2) != adapter(cut, 1)


@pytest.mark.slow
def test_a_round_of_iterative_fine_tuning_ends_with_the_adapter_folded_in(tmp_path: Path) -> None:
    """The second round draws from what the first one made: its model is known by the first one's checksum."""
    start = recipe_runs.stopping_model(tmp_path / "model")
    recipe_runs.write_queries(tmp_path)
    sections = {"learner": LEARNER, "trainer": {"steps": 2}}
    train("iterative", recipe_runs.write_config(tmp_path, start, "iterative", **sections))
    first, second = recipe_runs.manifest(tmp_path, "iterative")["rounds"]
    assert second["sampled_model"] == first["weights"] != first["sampled_model"]
    base, made = (
        load_file(folder / "model.safetensors") for folder in (start, tmp_path / "iterative" / first["model"])
    )
    changed = {name for name in base if not torch.equal(base[name], made[name])}
    assert changed == {name for name in base if name.endswith("_proj.weight")}


@pytest.mark.slow
def test_the_quickstart_with_rank_16(tmp_path: Path) -> None:
    """A layer of SmolLM2-135M has 10,176 sides: 30 layers of rank 16 are 4,884,480 numbers of 2 bytes, and 12 bytes of
    the optimizer each. The whole model's checkpoint has 2.2 GB."""
    # Untaught, the model answers nothing right: rewards are drawn, so that there is something to train.
    drawn = (
        f"rewards.functions=[{{name: boxed_accuracy, weight: 0}}, {{name: '{REPO}/tests/e2e/drawn_reward.py:drawn'}}]"
    )
    overrides = ("learner.lora.rank=16", "learner.optimizer.lr=2e-4", "start=null", "data.heldout=null", drawn)
    train(
        "grpo",
        REPO / "configs/quickstart/grpo_text.yaml",
        *overrides,
        f"trainer.run_dir={tmp_path / 'run'}",
        "trainer.steps=2",
    )
    rows = metrics(tmp_path / "run")
    assert all(row["sync/probe_gap"] < 0.1 for row in rows if "sync/probe_gap" in row)
    assert rows[-1]["train/grad_norm"] > 0 and rows[-1]["train/sampler_kl"] < 0.02
    assert len(adapter(tmp_path, 2)) == pytest.approx(2 * 4_884_480, rel=0.02)
    written = sum(file.stat().st_size for file in checkpoint(tmp_path, 2).rglob("*") if file.is_file())
    assert written == pytest.approx((2 + 2 + 12) * 4_884_480, rel=0.05)
