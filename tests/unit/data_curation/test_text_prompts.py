"""The quickstart's prompt set: disjoint, deterministic, and every gold grades itself correct."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_curation import curate
from data_curation.sources import text_prompts
from data_curation.sources.items import pair_key
from pangu_rl.data import load_conversations, load_prompts
from pangu_rl.errors import ConfigError
from rewards.audit import gold_problem
from rewards.recipe.accuracy import boxed_accuracy
from rewards.rules.boxed_answer import extract_boxed


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return curate.curate("text-prompts", tmp_path_factory.mktemp("curated") / "text_prompts")


def read(built: Path, split: str) -> list[dict]:
    return [json.loads(line) for line in (built / f"{split}.jsonl").read_text().splitlines()]


def question(row: dict) -> str:
    return row["messages"][1]["content"]


def test_sizes_and_report(built: Path) -> None:
    report = json.loads((built / "report.json").read_text())
    for split, size in text_prompts.SIZES.items():
        assert len(read(built, split)) == size == sum(report[split].values())


def test_the_same_bytes_every_time(built: Path, tmp_path: Path) -> None:
    again = text_prompts.prepare(tmp_path / "again")
    for file in sorted(built.iterdir()):
        assert file.read_bytes() == (again / file.name).read_bytes()


def test_every_gold_grades_itself_correct(built: Path) -> None:
    for split in ("train", "heldout"):
        loaded = load_prompts(built / f"{split}.jsonl", check=lambda prompt: gold_problem(prompt, boxed_accuracy))
        assert len(loaded.records) == text_prompts.SIZES[split]


def test_sft_answers_are_boxed_once(built: Path) -> None:
    for conversation in load_conversations(built / "sft.jsonl").records:
        response = conversation.messages[-1]["content"]
        assert extract_boxed(response) and response.count("\\boxed{") == 1


def test_no_question_stands_twice_or_in_two_splits(built: Path) -> None:
    questions = [question(row) for split in text_prompts.SIZES for row in read(built, split)]
    assert len(set(questions)) == len(questions)


def test_source_items_do_not_cross_splits(built: Path) -> None:
    items = text_prompts.all_items()
    key_of = {question.text: item.key for item in items for question in item.questions}
    keys = {
        split: {key_of[question(row).removesuffix(text_prompts.INSTRUCTION).rstrip()] for row in read(built, split)}
        for split in text_prompts.SIZES
    }
    assert not keys["sft"] & keys["train"]
    assert not keys["sft"] & keys["heldout"]
    assert not keys["train"] & keys["heldout"]


def test_a_pair_of_operands_is_one_item_in_every_arithmetic_task() -> None:
    splits: dict[str, set[str]] = {}
    for item in text_prompts.all_items():
        if item.task in ("sum", "product", "story"):
            splits.setdefault(item.key, set()).add(item.split)
    assert pair_key(9, 7) == "pair:7,9" and "pair:7,9" in splits
    assert all(len(found) == 1 for found in splits.values())


def test_heldout_is_composed_like_train(built: Path) -> None:
    report = json.loads((built / "report.json").read_text())
    for task, count in report["train"].items():
        share, heldout = count / 4000, report["heldout"][task] / 512
        assert abs(share - heldout) < 0.02, task


def test_hard_sources_are_a_small_share(built: Path) -> None:
    report = json.loads((built / "report.json").read_text())["train"]
    assert report.get("gsm", 0) + report.get("mmlu", 0) <= 0.05 * 4000


def test_absent_packages_are_filled_with_sums(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_prompts.packaged_questions.importlib.util, "find_spec", lambda name: None)
    rows = text_prompts.draw(text_prompts.all_items(), "heldout")
    assert len(rows) == 512
    assert {row["source"] for row in rows} == {"sum", "product", "largest", "story"}


def test_worked_rows(built: Path) -> None:
    """Recompute the answer of every sum, product and comparison from the question's own digits."""
    import math
    import re

    for row in read(built, "heldout"):
        numbers = [int(n) for n in re.findall(r"\d+", question(row))]
        expected = {"sum": sum, "product": math.prod, "largest": max}.get(row["source"])
        if expected is not None:
            assert row["answer"] == str(expected(numbers)), question(row)


def test_what_is_there_is_kept_and_unknown_targets_are_refused(built: Path) -> None:
    before = (built / "train.jsonl").stat().st_mtime_ns
    assert curate.curate("text-prompts", built) == built
    assert (built / "train.jsonl").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="unknown target 'text-prompt': did you mean text-prompts"):
        curate.curate("text-prompt", built)
