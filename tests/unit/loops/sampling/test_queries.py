"""The queries of a sampling stage, read and audited with a real model folder before anything starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pangu_rl.config.sampling import DifficultyConfig, IterativeConfig, PairsConfig
from pangu_rl.errors import ConfigError, DataError
from pangu_rl.loops.sampling.queries import read_queries

RL = {"id": "rl", "prompt": "2 + 2?", "answer": "4"}
SFT = {"id": "sft", "prompt": "3 + 3?", "response": "It is \\boxed{6}"}
UNREADABLE = {"id": "bad", "prompt": "?", "answer": "see image"}


def config(schema: type, folder: Path, model: Path, rows: list[dict[str, Any]], **changes: Any) -> Any:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"queries": str(folder / "rows.jsonl"), "max_prompt_tokens": 64, **changes.pop("data", {})}
    rollout = {"max_new_tokens": 16, "max_model_tokens": 128}
    tree = {"model": {"path": str(model)}, "data": data, "rollout": rollout, "trainer": {"run_dir": str(folder)}}
    return schema.model_validate(tree | changes)


def test_rows_of_both_kinds_and_the_heldout_ones(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "heldout.jsonl").write_text(json.dumps(RL))
    heldout = {"heldout": str(tmp_path / "heldout.jsonl")}
    queries = read_queries(config(IterativeConfig, tmp_path, tiny_model, [RL, SFT], data=heldout))
    assert [(prompt.uid, prompt.answer) for prompt in queries.rows] == [("rl", "4"), ("sft", "6")]
    assert [prompt.uid for prompt in queries.heldout] == ["rl"]


def test_a_reference_that_cannot_be_graded_is_refused_or_counted(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 2: the gold 'see image' cannot be graded"):
        read_queries(config(PairsConfig, tmp_path, tiny_model, [RL, UNREADABLE]))
    queries = read_queries(config(PairsConfig, tmp_path, tiny_model, [RL, UNREADABLE], data={"on_bad_row": "skip"}))
    assert [prompt.uid for prompt in queries.rows] == ["rl"]
    assert len(queries.skipped) == 1


def test_an_llm_scorer_is_not_asked_about_references(tiny_model: Path, tmp_path: Path) -> None:
    """Its file does not even exist: nothing is graded before the stage starts."""
    judged = {"functions": [{"name": "llm_score", "args": {"config": "none.yaml"}}]}
    assert len(read_queries(config(PairsConfig, tmp_path, tiny_model, [RL, UNREADABLE], rewards=judged)).rows) == 2


def test_a_function_of_right_and_wrong_is_refused_where_scores_decide(tiny_model: Path, tmp_path: Path) -> None:
    accuracy = {"functions": [{"name": "boxed_accuracy"}]}
    with pytest.raises(ConfigError, match=r"boxed_accuracy gives 1.0 to the right answer of rl, and this"):
        read_queries(config(PairsConfig, tmp_path, tiny_model, [RL], rewards=accuracy))
    assert read_queries(config(DifficultyConfig, tmp_path, tiny_model, [RL], rewards=accuracy)).rows


def test_a_prompt_that_is_too_long_is_a_bad_row(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 1: the prompt has \d+ tokens, data.max_prompt_tokens is 64"):
        read_queries(config(PairsConfig, tmp_path, tiny_model, [RL | {"prompt": "word " * 80}]))


def test_limit_takes_usable_rows_spread_over_the_file(tiny_model: Path, tmp_path: Path) -> None:
    rows = [UNREADABLE, SFT, *(RL | {"id": f"r{i}"} for i in range(5))]
    for limit, taken in ((1, ["sft"]), (2, ["sft", "r2"]), (4, ["sft", "r0", "r2", "r3"]), (6, 6), (9, 6)):
        data = {"on_bad_row": "skip", "limit": limit}
        found = [prompt.uid for prompt in read_queries(config(PairsConfig, tmp_path, tiny_model, rows, data=data)).rows]
        assert found == taken or len(found) == taken
