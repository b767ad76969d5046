"""difficulty -> pairs -> iterative by real engines and a real learner, all in one Ray, each result recomputed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from pangu_rl.cluster import ray_runtime
from pangu_rl.config.load import load_config
from pangu_rl.config.sampling import DifficultyConfig, IterativeConfig, PairsConfig
from pangu_rl.data.pairs import load_pairs
from pangu_rl.loops.sampling import sample
from pangu_rl.loops.sampling.run_difficulty import run_difficulty
from pangu_rl.loops.sampling.run_iterative import run_iterative
from pangu_rl.loops.sampling.run_pairs import run_pairs
from tests.e2e import recipe_runs as runs
from tests.small_ray import small_ray
from tests.unit.rewards.scorers.endpoint import panel_config, scorer, serving, verdict


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All three stages; they share one Ray instead of starting one each."""
    folder = tmp_path_factory.mktemp("recipe")
    model = runs.stopping_model(folder / "model")
    runs.write_queries(folder)
    with pytest.MonkeyPatch.context() as patch, small_ray():
        patch.setattr(ray_runtime, "start", lambda cluster: None)
        patch.setattr(ray_runtime, "stop", lambda: None)
        run_difficulty(load_config(DifficultyConfig, runs.write_config(folder, model, "difficulty")))
        with serving(lambda body: verdict(5)) as endpoint:
            panel = panel_config(folder / "votes.sqlite", scorer(endpoint.url)).model_dump(mode="json")
            (folder / "scorers.yaml").write_text(json.dumps(panel))
            judged = {"name": "llm_score", "args": {"config": str(folder / "scorers.yaml")}}
            config = runs.write_config(
                folder,
                model,
                "pairs",
                rewards={"functions": [{"name": runs.SCORE}, judged]},
                selector={"sources": ["even"]},
            )
            run_pairs(load_config(PairsConfig, config))
        run_iterative(load_config(IterativeConfig, runs.write_config(folder, model, "iterative")))
        yield folder


def stored(run_dir: Path) -> dict[str, list[dict[str, Any]]]:
    """Stored rows by prompt uid."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for shard in sorted((run_dir / "rollouts").glob("*.parquet")):
        for row in pq.read_table(shard).to_pylist():
            groups.setdefault(row["prompt_uid"], []).append(row)
    return groups


def test_pass_rates_are_those_of_the_stored_samples(finished: Path) -> None:
    groups = stored(finished / "difficulty")
    kept = runs.rows(finished / "difficulty" / "prompts.jsonl")
    left_out = runs.rows(finished / "difficulty" / "left_out.jsonl")
    assert len(groups) == len(kept) + len(left_out) == runs.QUERIES
    for row in kept + left_out:
        right = [sample["outcome"] == "correct" for sample in groups[row["id"]]]
        assert len(right) == 8
        assert row["pass_rate"] == sum(right) / 8
        assert (row["pass_rate"] <= 0.75) == ("reason" not in row)
        assert row["answer"] == str(2 * int(row["id"][1:]) + 3), "the box of the SFT reply is the gold"
        assert row["messages"][-1]["role"] == "user"
    counts = runs.manifest(finished, "difficulty")
    assert counts["queries"]["selected"] == len(kept)
    assert counts["candidates"] == 8 * runs.QUERIES
    assert len({row["pass_rate"] for row in kept + left_out}) > 2, "rates of one value would prove nothing"


def test_pairs_are_the_best_and_the_worst_stored_candidate(finished: Path) -> None:
    groups = stored(finished / "pairs")
    pairs = runs.rows(finished / "pairs" / "pairs.jsonl")
    assert set(groups) == {f"q{i}" for i in range(0, runs.QUERIES, 2)}, "the selector takes the even source"
    assert len(pairs) > 0
    for pair in pairs:
        rewards = {row["text"]: row["reward"] for row in groups[pair["id"]]}
        assert (rewards[pair["chosen"]], rewards[pair["rejected"]]) == (5.0, 1.0)
        assert (pair["chosen_score"], pair["rejected_score"]) == (5.0, 1.0)
    assert [row.uid for row in load_pairs(finished / "pairs" / "pairs.jsonl").records] == [pair["id"] for pair in pairs]


def test_every_candidate_keeps_its_votes_and_the_least_score_counts(finished: Path) -> None:
    for row in (row for group in stored(finished / "pairs").values() for row in group):
        [vote] = json.loads(row["scorer_votes"])
        assert (vote["part"], vote["score"]) == ("llm_score", 5)
        assert row["reward"] == min(part["value"] for part in row["parts"])


def test_the_pairs_manifest_reports_rule_selector_and_histogram(finished: Path) -> None:
    tree = runs.manifest(finished, "pairs")
    rewards = Counter(str(int(row["reward"])) for group in stored(finished / "pairs").values() for row in group)
    assert {score: count for score, count in tree["scores"].items() if count} == dict(rewards)
    assert tree["selector"]["left_out"] == {"source": 6}
    assert sum(tree["queries"].values()) == 6
    assert tree["queries"]["selected"] == tree["outputs"]["pairs.jsonl"]["rows"]
    assert tree["rule"] == {"chosen_above": 4.0, "rejected_below": 2.0}


def test_a_round_trains_on_hard_queries_with_a_right_answer(finished: Path) -> None:
    """The rule is applied to the stored rows once more, without the code under test; q0 to q3 are held-out prompts."""
    groups = stored(finished / "iterative" / "round_001" / "samples")
    expected, held = {}, set()
    for uid, group in groups.items():
        scores = [row["reward"] for row in group]
        right = [row["text"] for row in group if row["reward"] == 5 and row["finish_reason"] == "stop"]
        if sum(score < 2 for score in scores) >= 2 and any(text.strip() for text in right):
            expected[uid] = next(text for text in right if text.strip())
            held |= {uid} & {"q0", "q1", "q2", "q3"}
    expected = {uid: text for uid, text in expected.items() if uid not in held}
    selected = runs.rows(finished / "iterative" / "round_001" / "selected.jsonl")
    assert {row["id"]: row["messages"][-1]["content"] for row in selected} == expected
    assert len(expected) >= 2
    turn = runs.manifest(finished, "iterative")["rounds"][0]
    assert turn["queries"]["selected"] == len(expected)
    assert turn["queries"]["same_prompt"] == len(held) > 0
    assert sum(turn["queries"].values()) == runs.QUERIES


def test_the_round_moved_the_weights_and_both_models_were_measured(finished: Path) -> None:
    tree = runs.manifest(finished, "iterative")
    before = load_file(finished / "model" / "model.safetensors")
    after = load_file(finished / "iterative" / tree["model"] / "model.safetensors")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert list(tree["heldout"]) == ["start", "round 1"]
    assert all(entry["items"] == 4 for entry in tree["heldout"].values())
    assert tree["rounds"][0]["fine_tuning"]["last_loss"] > 0


def test_the_same_commands_again_draw_nothing_and_say_the_same(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("an engine was started")

    monkeypatch.setattr(sample, "open_engines", fail)
    monkeypatch.setattr(ray_runtime, "start", lambda cluster: None)
    monkeypatch.setattr(ray_runtime, "stop", lambda: None)
    for stage, schema, run in (
        ("difficulty", DifficultyConfig, run_difficulty),
        ("iterative", IterativeConfig, run_iterative),
    ):
        before = runs.manifest(finished, stage)
        assert run(load_config(schema, finished / f"{stage}.yaml")) == before == runs.manifest(finished, stage)
