"""TRL trains a step on exports: SFT on `sft`, DPO on `pairs`, GRPO on `prompts`, as docs/store.md has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_dataset

from tests.builders import build_tiny_model
from tests.unit.rollout.export.exporting import exported
from tests.unit.rollout.stored import Answer, Asked, store_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight prompts without pictures, each answered right and wrong."""
    answers = [Answer(text="It is \\boxed{2}"), Answer(text="It is \\boxed{3}", correct=False)]
    directory = tmp_path_factory.mktemp("runs") / "run"
    store_of(directory, {1: [Asked(uid=f"{n}+{n}", answers=answers) for n in range(8)]})
    return directory


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build_tiny_model(tmp_path_factory.mktemp("model"), dtype="float32"))


def loaded(run: Path, folder: Path, target: str) -> Dataset:
    exported(run, folder / "out", to=target, format="hf")
    rows = load_dataset(str(folder / "out"), split="train", cache_dir=str(folder / "cache"))
    return rows.remove_columns("images")  # empty here; a trainer that sees the column wants a vision model


def settings(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "trained"),
        "max_steps": 1,
        "per_device_train_batch_size": 4,
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "save_strategy": "no",
        "learning_rate": 1e-3,
    }


def steps_and_loss(trainer: Any) -> tuple[int, float]:
    done = trainer.train()
    return done.global_step, done.training_loss


def test_sft(run: Path, model: str, tmp_path: Path) -> None:
    from trl import SFTConfig, SFTTrainer

    rows = loaded(run, tmp_path, "sft").select_columns("messages")
    step, loss = steps_and_loss(SFTTrainer(model, args=SFTConfig(**settings(tmp_path)), train_dataset=rows))
    assert step == 1
    assert 5.0 < loss < 15.0


def test_dpo(run: Path, model: str, tmp_path: Path) -> None:
    """Before its first update the policy is the reference: the loss is log 2."""
    from trl import DPOConfig, DPOTrainer

    def answer(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    rows = loaded(run, tmp_path, "pairs").rename_column("messages", "prompt")
    rows = rows.map(lambda row: {"chosen": answer(row["chosen"]), "rejected": answer(row["rejected"])})
    rows = rows.select_columns(["prompt", "chosen", "rejected"])
    step, loss = steps_and_loss(DPOTrainer(model, args=DPOConfig(**settings(tmp_path)), train_dataset=rows))
    assert step == 1
    assert loss == pytest.approx(0.6931, abs=1e-3)


def test_grpo(run: Path, model: str, tmp_path: Path) -> None:
    from trl import GRPOConfig, GRPOTrainer

    seen: list[str] = []

    def reward(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
        seen.extend(answer)
        return [float(n % 2) for n in range(len(completions))]

    rows = loaded(run, tmp_path, "prompts").rename_column("messages", "prompt")
    args = GRPOConfig(**settings(tmp_path), num_generations=4, max_completion_length=4)
    step, _ = steps_and_loss(GRPOTrainer(model, args=args, reward_funcs=reward, train_dataset=rows))
    assert step == 1
    assert set(seen) == {"2"}
