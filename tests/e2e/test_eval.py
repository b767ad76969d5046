"""`pangu-rl eval` through the real command; the engine is the fake one, for the verdicts are what is looked at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pangu_rl.monitoring.intervals import wilson
from tests.e2e.runs import REPO, run


def write_eval(folder: Path, model: Path, **data: object) -> Path:
    """Ten rows in two sources; `few` are the first four of them."""
    rows = [
        {"id": f"p{i}", "prompt": f"{i}?", "answer": str(1000 + i), "source": "low" if i < 6 else "high"}
        for i in range(10)
    ]
    (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:4]))
    tree = {
        "model": {"path": str(model)},
        "data": {"sets": {"few": str(folder / "few.jsonl"), "all": str(folder / "all.jsonl")}} | data,
        "rollout": {"engine": "fake", "max_new_tokens": 8, "max_model_tokens": 1032},
        "rewards": {"functions": [{"name": f"{REPO}/tests/e2e/even_reward.py:even"}]},
        "trainer": {"run_dir": str(folder / "run")},
        "monitoring": {"tensorboard": False},
        "cluster": {"object_store_gib": 0.1},
    }
    path = folder / "eval.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def test_accuracy_per_set_and_source_with_intervals(tiny_model, tmp_path):
    done = run("eval", write_eval(tmp_path, tiny_model), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == ["few", "all"]
    low, high = wilson(5, 10)
    assert {key: found["all"][key] for key in ("items", "accuracy", "low", "high")} == {
        "items": 10,
        "accuracy": 0.5,
        "low": pytest.approx(low),
        "high": pytest.approx(high),
    }
    assert {name: part["items"] for name, part in found["all"]["sources"].items()} == {"high": 4, "low": 6}
    assert found["few"]["accuracy"] == 0.5
    saved = json.loads((tmp_path / "run" / "evaluations.json").read_text())
    assert saved[1]["correct"] == {f"p{i}": i % 2 == 0 for i in range(10)}
    assert "Held-out accuracy" in done.stderr
    said = [json.loads(line) for line in (tmp_path / "run" / "answers.jsonl").read_text().splitlines()]
    assert [(row["set"], row["id"]) for row in said[3:6]] == [("few", "p3"), ("all", "p0"), ("all", "p1")]
    assert [row["outcome"] for row in said[4:6]] == ["correct", "incorrect"]
    assert all(row["said"] and row["answer"] == str(1000 + int(row["id"][1:])) for row in said)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"sets": {}}, "data.sets"),
        ({"sets": {"gone": "/nowhere/rows.jsonl"}}, "/nowhere/rows.jsonl"),
        ({"max_prompt_tokens": 1030}, "max_model_tokens"),
    ],
)
def test_bad_input_is_one_line(tiny_model, tmp_path, data, message):
    done = run("eval", write_eval(tmp_path, tiny_model, **data))
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_rows_are_asked_as_their_category_is(tiny_model, tmp_path):
    """Longer prompts count: with the table's text they no longer fit."""
    table = tmp_path / "prompts.yaml"
    table.write_text(yaml.safe_dump({"categories": {"low": {"any": "Please say it: {question}" + " please" * 40}}}))
    done = run("eval", write_eval(tmp_path, tiny_model, prompts=str(table)), "--json")
    assert done.returncode == 0, done.stderr
    assert "prompts.yaml asks 10 of 14 rows; as they stand: 4 of high" in done.stderr
    done = run("eval", write_eval(tmp_path, tiny_model, prompts=str(table), max_prompt_tokens=48))
    assert done.returncode == 2 and "data.max_prompt_tokens is 48" in done.stderr
    table.write_text(yaml.safe_dump({"categories": {"chart": {"any": "{question}"}}}))
    done = run("eval", write_eval(tmp_path, tiny_model, prompts=str(table)))
    assert done.returncode == 2, done.stderr
    assert "has the categories chart, the rows' sources are high, low: it asks none" in done.stderr
