"""Real runs with pictures -> every target in every format, twice -> `datasets`, TRL's trainers, our own stages.

The model is the quickstart's miniature openPangu-VL after its SFT start, which is kept in the cache: minutes once. It
answers some questions right and some wrong, so that no export is empty.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset, load_dataset

from pangu_rl.config.load import load_config
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.stages import GrpoConfig
from pangu_rl.loops.online.start import start_model
from tests.e2e import runs
from tests.unit.rollout.export.exporting import contents, exported, manifest_of

pytestmark = pytest.mark.slow

GRPO, PAIRS = (runs.REPO / "configs" / name for name in ("quickstart/grpo_vl.yaml", "recipe/pairs_vl.yaml"))
MEDIA = "cache://data/easy_vqa"
TARGETS = ("raw", "sft", "pairs", "prompts", "iterative")
FORMATS = ("parquet", "jsonl", "sharegpt", "hf")


def ran(stage: str, config: Path, folder: Path, *overrides: str) -> Path:
    """The run directory of a stage that went well."""
    run_dir = folder / stage
    settings = ["monitoring.tensorboard=false", f"trainer.run_dir={run_dir}"]
    done = runs.run(stage, config, *settings, *overrides, timeout=1800)
    assert done.returncode == 0, done.stderr
    return run_dir


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("real")


@pytest.fixture(scope="module")
def grpo(folder: Path) -> Path:
    """Four steps of 24 prompts with 8 answers each."""
    return ran("grpo", GRPO, folder, "trainer.steps=4", "trainer.prompts_per_step=24", "data.heldout_limit=64")


@pytest.fixture(scope="module")
def model(grpo: Path) -> Path:
    """That the runs start from."""
    return start_model(load_config(GrpoConfig, GRPO))


@pytest.fixture(scope="module")
def pairs(folder: Path, model: Path) -> Path:
    """96 queries with 4 answers each, graded from 1 to 5."""
    return ran("pairs", PAIRS, folder, f"model.path={model}", "data.limit=96", "trainer.prompts_per_step=48")


@pytest.fixture(params=["grpo", "pairs"])
def run(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def loaded(output: Path, form: str, cache: Path) -> Dataset:
    """As the documentation says."""
    if form == "hf":
        return load_dataset(str(output), split="train", cache_dir=str(cache))
    kind, suffix = ("parquet", "parquet") if form == "parquet" else ("json", "jsonl")
    files = str(output / "data" / f"*.{suffix}")
    return load_dataset(kind, data_files=files, split="train", cache_dir=str(cache))


def stored(run_dir: Path) -> list[dict[str, Any]]:
    shards = sorted((run_dir / "rollouts").glob("*.parquet"))
    return [row for shard in shards for row in pq.read_table(shard).to_pylist()]


def counted(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Rows of the targets, from the documentation's words over the stored rows. Where parts grade from 1 to 5, the
    grade decides of pairs and hard groups; chosen ones and targets ended by themselves."""
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["step"], row["group"]), []).append(row)
    graded = any(part["name"] == "graded" for row in rows for part in row["parts"])

    def is_good(row: dict[str, Any], grade: float) -> bool:
        right = row["reward"] >= grade if graded else row["outcome"] == "correct"
        return right and row["finish_reason"] == "stop" and bool(row["text"].strip())

    def is_bad(row: dict[str, Any]) -> bool:
        return row["reward"] < 2 if graded else row["outcome"] == "incorrect"

    def has_pair(group: list[dict[str, Any]]) -> bool:
        return any(is_good(row, 4.001) for row in group) and any(is_bad(row) and row["text"].strip() for row in group)

    def is_hard(group: list[dict[str, Any]]) -> bool:
        return any(is_good(row, 5) for row in group) and sum(map(is_bad, group)) >= 2

    return {
        "raw": len(rows),
        "sft": sum(row["outcome"] == "correct" and bool(row["text"].strip()) for row in rows),
        "pairs": sum(map(has_pair, groups.values())),
        "prompts": len({row["prompt_uid"] for row in rows}),
        "iterative": sum(map(is_hard, groups.values())),
    }


def test_the_runs_have_something_to_export(grpo: Path, pairs: Path) -> None:
    for run_dir in (grpo, pairs):
        counts = counted(stored(run_dir))
        assert all(counts.values()), counts
        assert counts["sft"] > 0.2 * counts["raw"], "the model has not learned to answer"


@pytest.mark.parametrize("target", TARGETS)
def test_every_format_twice(run: Path, target: str, tmp_path: Path) -> None:
    """Equal counts in all formats, and the same bytes again."""
    rows = {}
    for form in FORMATS:
        for turn in ("first", "second"):
            exported(run, tmp_path / f"{form}-{turn}", to=target, format=form)
        first, second = (contents(tmp_path / f"{form}-{turn}") for turn in ("first", "second"))
        assert first == second
        described = manifest_of(tmp_path / f"{form}-first")
        for name, identity in described["files"].items():
            assert hashlib.sha256(first[name]).hexdigest() == identity["sha256"]
        for name in (name for name in first if name.startswith("images/")):
            assert hashlib.sha256(first[name]).hexdigest() == Path(name).stem
        rows[form] = loaded(tmp_path / f"{form}-first", form, tmp_path / "cache")
        assert len(rows[form]) == described["rows"]
        assert described["pictures"] == sum(name.startswith("images/") for name in first) > 0
    assert {len(found) for found in rows.values()} == {counted(stored(run))[target]}

    plain, shown = rows["parquet"][0], rows["hf"][0]
    paths = [image["path"] if isinstance(image, dict) else image for image in plain["images"]]
    assert [(tmp_path / "parquet-first" / path).is_file() for path in paths] == [True]
    assert [image.size for image in shown["images"]] == [(64, 64)]
    if target != "raw":
        assert [row["id"] for row in rows["jsonl"]] == [row["id"] for row in rows["sharegpt"]]
        assert rows["jsonl"][0]["messages"] == plain["messages"] == shown["messages"]
        [marked] = [turn["value"] for turn in rows["sharegpt"][0]["conversations"] if turn["from"] == "human"]
        assert marked.count("<image>") == 1


def test_pairs_are_those_that_the_stage_made(pairs: Path, tmp_path: Path) -> None:
    """The stage chose in Python while it ran; the export chooses in SQL from what was stored."""
    ours = exported(pairs, tmp_path / "out", to="pairs", format="jsonl")
    theirs = [json.loads(line) for line in (pairs / "pairs.jsonl").read_text().splitlines()]
    assert len(ours) == len(theirs) > 0
    sides = ("chosen", "rejected", "chosen_score", "rejected_score")
    assert sorted(tuple(row[side] for side in sides) for row in ours) == sorted(
        tuple(row[side] for side in sides) for row in theirs
    )


def test_our_stages_train_on_the_exports(grpo: Path, pairs: Path, model: Path, tmp_path: Path) -> None:
    """One step each of sft, dpo and grpo, in the three forms that they read."""
    for name, source, options in (
        ("sft", grpo, {"to": "sft", "format": "hf"}),
        ("pairs", pairs, {"to": "pairs", "format": "jsonl"}),
        ("prompts", grpo, {"to": "prompts", "format": "parquet"}),
    ):
        exported(source, tmp_path / name, **options)
    start = [f"model.path={model}", "trainer.steps=1"]
    quickstart = runs.REPO / "configs" / "quickstart"

    def data(name: str, file: str = "") -> list[str]:
        return [f"data.train={tmp_path / name / 'data' / file}", f"data.media_root={tmp_path / name}"]

    sft = ran(
        "sft", quickstart / "sft_vl.yaml", tmp_path / "runs", *start, *data("sft"), "trainer.sequences_per_step=16"
    )
    [row] = runs.metrics(sft)
    assert 0 < row["train/loss"] < 1, "the model's own right answers are likely to it"

    config = tmp_path / "dpo.yaml"
    config.write_text(
        json.dumps(
            {
                "model": {"path": str(model)},
                "data": {"train": "set below", "max_tokens": 128},
                "algorithm": {"weights": [1, 0, 0]},
                "learner": {"pack_tokens": 2048},
                "trainer": {"run_dir": "set below", "steps": 1, "pairs_per_step": 8},
            }
        )
    )
    dpo = ran("dpo", config, tmp_path / "runs", *start, *data("pairs", "train-00000.jsonl"))
    [row] = runs.metrics(dpo)
    assert row["train/loss"] == pytest.approx(0.6931, abs=0.02), "the policy is still its own reference"

    again = ran("grpo", GRPO, tmp_path / "runs", *start, *data("prompts"), "start=null", "data.heldout=null",
                "trainer.prompts_per_step=8")  # fmt: skip
    asked = {row["prompt_uid"] for row in stored(again)}
    assert len(asked) == 8 and asked <= {row["prompt_uid"] for row in stored(grpo)}


def trl_settings(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "trained"),
        "max_steps": 1,
        "per_device_train_batch_size": 4,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": [],
        "save_strategy": "no",
    }


def for_trl(path: Path) -> Any:
    """Our model with a `base_model` that takes pictures, as TRL's fused head calls it."""
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32)

    def backbone(input_ids, attention_mask, pixel_values, image_grid_thw, **_: Any) -> SimpleNamespace:
        pictures = dict.fromkeys(("pixel_values_videos", "video_grid_thw"))
        pictures |= {"pixel_values": pixel_values, "image_grid_thw": image_grid_thw}
        positions = model.prompt_positions(input_ids, attention_mask, pictures)
        with model.model.rotary_emb.at(positions):
            embeddings = model._embed(input_ids, pictures)
            return model.model(inputs_embeds=embeddings, attention_mask=attention_mask, use_cache=False)

    kind = type(model)
    model.__class__ = type(kind.__name__, (kind,), {"base_model": property(lambda self: backbone)})
    return model


@pytest.fixture
def processor(model: Path) -> Any:
    from transformers import AutoProcessor

    from pretrain.auto import register_auto_classes

    register_auto_classes()
    return AutoProcessor.from_pretrained(model)


def step_and_loss(trainer: Any) -> tuple[int, float]:
    done = trainer.train()
    return done.global_step, done.training_loss


def test_trl_sft(grpo: Path, model: Path, processor: Any, tmp_path: Path) -> None:
    from trl import SFTConfig, SFTTrainer

    exported(grpo, tmp_path / "out", to="sft", format="hf")
    rows = loaded(tmp_path / "out", "hf", tmp_path / "cache")
    rows = rows.map(lambda row: {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]})
    rows = rows.select_columns(["prompt", "completion", "images"])
    # The model writes nothing after a turn's end: the template's newline there would cost 12 nats an answer.
    end, newline = "<|im_end|>\n", "{{ '\\n' if add_generation_prompt or not loop.last }}"
    processor.chat_template = processor.chat_template.replace(end, end.rstrip() + newline)
    args = SFTConfig(**trl_settings(tmp_path), max_length=None)
    step, loss = step_and_loss(SFTTrainer(for_trl(model), args=args, train_dataset=rows, processing_class=processor))
    assert step == 1
    assert 0 < loss < 1, "the model's own right answers are likely to it, with the pictures they are about"


def test_trl_dpo(pairs: Path, model: Path, processor: Any, tmp_path: Path) -> None:
    """Before its first update the policy is the reference: the loss is log 2."""
    from trl import DPOConfig, DPOTrainer

    exported(pairs, tmp_path / "out", to="pairs", format="hf")
    rows = loaded(tmp_path / "out", "hf", tmp_path / "cache").rename_column("messages", "prompt")
    answer: Callable[[str], list[dict[str, str]]] = lambda text: [{"role": "assistant", "content": text}]  # noqa: E731
    rows = rows.map(lambda row: {"chosen": answer(row["chosen"]), "rejected": answer(row["rejected"])})
    trainer = DPOTrainer(
        for_trl(model),
        ref_model=for_trl(model),
        args=DPOConfig(**trl_settings(tmp_path), max_length=None),
        train_dataset=rows.select_columns(["prompt", "images", "chosen", "rejected"]),
        processing_class=processor,
    )
    step, loss = step_and_loss(trainer)
    assert step == 1
    assert loss == pytest.approx(0.6931, abs=1e-3)


def test_trl_grpo(grpo: Path, model: Path, processor: Any, tmp_path: Path) -> None:
    """Its reward is given the answers of the export, and its completions answer what the pictures show."""
    from trl import GRPOConfig, GRPOTrainer

    seen: list[tuple[str, str]] = []

    def reward(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
        texts = [completion[0]["content"] for completion in completions]
        seen.extend(zip(texts, answer, strict=True))
        return [float(gold in text) for text, gold in zip(texts, answer, strict=True)]

    exported(grpo, tmp_path / "out", to="prompts", format="hf")
    rows = loaded(tmp_path / "out", "hf", tmp_path / "cache").rename_column("messages", "prompt")
    args = GRPOConfig(**trl_settings(tmp_path), num_generations=4, max_completion_length=16)
    trainer = GRPOTrainer(
        for_trl(model), reward_funcs=reward, args=args, train_dataset=rows, processing_class=processor
    )
    step, _ = step_and_loss(trainer)
    assert step == 1
    golds = {json.loads(line)["answer"] for line in (resolve_path(MEDIA) / "train.jsonl").read_text().splitlines()}
    assert len(seen) == 4 and {gold for _, gold in seen} <= golds
    assert any(re.search(r"\\boxed\{.*\}", text) for text, _ in seen), seen
