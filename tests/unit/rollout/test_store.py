"""What a run drew is on disk whole, once per step, and readable by others."""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import replace

import duckdb
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from pangu_rl.errors import DataError
from pangu_rl.records import Completion, FinishReason, Group, Outcome, Part, Prompt, SamplingParams, Score, Vote
from rollout.schema import SCHEMA
from rollout.store import RolloutStore

SAMPLING = SamplingParams(temperature=0.6, top_p=0.9, top_k=5, max_new_tokens=32)


def group(uid: str, rewards: list[float | None]) -> Group:
    prompt = Prompt(
        uid=uid,
        messages=({"role": "user", "content": "1 + 1 = ? 算一下"},),
        answer="2",
        source="add",
        extra={"choices": ["1", "2"], "level": 3},
    )
    completions = [
        Completion(
            uid=f"0:{uid}/{index}",
            group=f"0:{uid}",
            prompt_uid=uid,
            token_ids=(7, 8, index),
            logprobs=(-0.5, -1.25, -3.0),
            text=f"\\boxed{{{index}}}",
            finish_reason=FinishReason.STOP,
            weight_versions=(3, 3, 3),
            seconds=0.5,
        )
        for index in range(len(rewards))
    ]
    scores = [
        Score(
            completion_uid=completion.uid,
            reward=reward,
            parts={
                "accuracy": Part(value=reward, outcome=Outcome.TIMEOUT if reward is None else Outcome.CORRECT),
                "format": Part(value=1.0, outcome=Outcome.CORRECT, detail="boxed"),
            },
        )
        for completion, reward in zip(completions, rewards, strict=True)
    ]
    return Group(
        prompt=prompt,
        group=f"0:{uid}",
        prompt_token_ids=(1, 2),
        completions=completions,
        scores=scores,
        advantages=[0.25] * len(rewards),
        trained=uid != "aside",
    )


@pytest.fixture
def store(tmp_path) -> RolloutStore:
    return RolloutStore(tmp_path / "run-1")


def test_round_trip_keeps_every_column(store):
    path = store.append(12, [group("p", [1.1, None]), group("aside", [0.0])], SAMPLING)
    assert path.name == "step_000012.parquet"
    table = store.read().to_table()
    assert table.schema.equals(SCHEMA)
    first, second, third = table.to_pylist()
    assert json.loads(first["messages"]) == [{"role": "user", "content": "1 + 1 = ? 算一下"}]
    assert first["images"] == []
    assert json.loads(first["extra"]) == {"choices": ["1", "2"], "level": 3}
    assert first["code_version"].startswith(importlib.metadata.version("pangu-rl"))
    assert (first["run"], first["step"], first["group"], first["completion_uid"]) == ("run-1", 12, "0:p", "0:p/0")
    assert (first["token_ids"], first["logprobs"], first["prompt_token_ids"]) == (
        [7, 8, 0],
        [-0.5, -1.25, -3.0],
        [1, 2],
    )
    assert first["sampling"] == {
        "temperature": 0.6,
        "top_p": 0.9,
        "top_k": 5,
        "max_new_tokens": 32,
        "ignore_eos": False,
    }
    assert (first["finish_reason"], first["weight_version"], first["gold"], first["source"]) == ("stop", 3, "2", "add")
    assert (first["reward"], first["outcome"], first["advantage"], first["trained"]) == (1.1, "correct", 0.25, True)
    assert first["parts"] == [
        {"name": "accuracy", "value": 1.1, "outcome": "correct", "detail": ""},
        {"name": "format", "value": 1.0, "outcome": "correct", "detail": "boxed"},
    ]
    assert (second["reward"], second["outcome"]) == (None, "timeout")
    assert third["trained"] is False


def test_versions_of_an_interrupted_answer_are_kept_for_each_token(store):
    drawn = group("p", [1.0, 0.0])
    drawn.completions[1] = replace(drawn.completions[1], weight_versions=(3, 4, 4))
    store.append(5, [drawn], SAMPLING)
    assert store.read().to_table().select(["weight_version", "weight_versions"]).to_pylist() == [
        {"weight_version": 3, "weight_versions": None},
        {"weight_version": 3, "weight_versions": [3, 4, 4]},
    ]


def test_readable_as_it_stands(store, tmp_path):
    path = store.append(1, [group("p", [1.0, 0.0])], SAMPLING)
    store.append(2, [group("q", [1.0])], SAMPLING)
    assert list(pandas.read_parquet(path)["reward"]) == [1.0, 0.0]
    shards = map(pandas.read_parquet, sorted(store.directory.glob("*.parquet")))
    assert list(pandas.concat(shards)["reward"]) == [1.0, 0.0, 1.0]
    assert polars.scan_parquet(store.directory / "*.parquet").collect()["reward"].to_list() == [1.0, 0.0, 1.0]
    mean = (
        f"SELECT step, avg(reward), any_value(parts[1].name) FROM '{store.directory}/*.parquet' GROUP BY 1 ORDER BY 1"
    )
    assert duckdb.sql(mean).fetchall() == [(1, 0.5, "accuracy"), (2, 1.0, "accuracy")]
    rows = load_dataset("parquet", data_files=str(store.directory / "*.parquet"), cache_dir=str(tmp_path / "hf"))[
        "train"
    ]
    assert rows["completion_uid"][:] == ["0:p/0", "0:p/1", "0:q/0"]


def test_steps_are_read_in_order_and_a_repeated_step_replaces_itself(store):
    for step, uid in ((10, "c"), (2, "a"), (9, "b"), (2, "a2")):
        store.append(step, [group(uid, [1.0])], SAMPLING)
    assert store.read().to_table()["prompt_uid"].to_pylist() == ["a2", "b", "c"]


def test_resume_drops_later_steps_and_half_written_files(store):
    for step in (1, 2, 3):
        store.append(step, [group(f"p{step}", [1.0])], SAMPLING)
    (store.directory / "step_000004.tmp").write_bytes(b"PAR1 half of a shard")
    assert store.read().to_table()["step"].to_pylist() == [1, 2, 3]
    dropped = store.truncate_after(1)
    assert [path.name for path in dropped] == ["step_000002.parquet", "step_000003.parquet", "step_000004.tmp"]
    assert store.steps() == [1]
    assert sorted(path.name for path in store.directory.iterdir()) == ["step_000001.parquet"]
    assert RolloutStore(store.directory.parent / "new").truncate_after(0) == []


def test_failed_write_leaves_the_last_shard_as_it_was(store):
    path = store.append(1, [group("p", [1.0])], SAMPLING)
    before = path.read_bytes()
    broken = group("p", [1.0])
    broken.completions[0] = "no completion"
    with pytest.raises(AttributeError):
        store.append(1, [broken], SAMPLING)
    assert path.read_bytes() == before


def test_empty_store_and_foreign_schema_are_refused(store):
    with pytest.raises(DataError, match="no rollouts"):
        store.read()
    store.directory.mkdir(parents=True)
    pq.write_table(pa.table({"a": [1]}), store.directory / "step_000001.parquet")
    with pytest.raises(DataError, match=r"step_000001\.parquet: rollout schema none, this version reads 1, 2, 3, 4"):
        store.read()


def test_votes_of_scorers_are_kept_also_without_a_verdict(store):
    drawn = group("p", [None, 1.0])
    votes = (Vote(scorer="judge", criterion="similarity", score=4, reason="差不多"),)
    part = Part(value=None, outcome=Outcome.ERROR, detail="scorer other is down", votes=votes)
    drawn.scores[0] = Score(completion_uid="0:p/0", reward=None, parts={"llm_score": part})
    store.append(1, [drawn], SAMPLING)
    kept, none = store.read().to_table().column("scorer_votes").to_pylist()
    assert json.loads(kept) == [
        {"part": "llm_score", "scorer": "judge", "criterion": "similarity", "score": 4, "reason": "差不多"}
    ]
    assert none is None
