"""What each target takes of the same ten rollouts."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pangu_rl.config.export import ExportConfig
from pangu_rl.errors import DataError
from pangu_rl.records import FinishReason
from rollout.export.export import export
from rollout.export.records import RAW_SCHEMA
from rollout.store import RolloutStore
from tests.unit.rollout.export.exporting import exported, manifest_of, rows_of
from tests.unit.rollout.stored import Answer, Asked, old_shard, store_of


def test_raw_rows_are_the_stored_ones_in_order_without_their_durations(run: Path, tmp_path: Path) -> None:
    rows = exported(run, tmp_path / "out")
    stored = RolloutStore(run).read().to_table().drop_columns(["seconds"])
    assert rows == stored.to_pylist()
    assert len(rows) == 10
    assert pq.read_schema(tmp_path / "out" / "data" / "train-00000.parquet").equals(RAW_SCHEMA)


def test_sft_takes_correct_answers_as_conversations(run: Path, tmp_path: Path) -> None:
    rows = exported(run, tmp_path / "out", to="sft")
    assert [row["id"] for row in rows] == [
        "first/1/0:1+1/0",
        "first/1/0:colour/0",
        "first/2/1:1+1/0",
        "first/2/1:1+1/1",
    ]
    [picture] = (tmp_path / "out" / "images").iterdir()
    assert rows[1] == {
        "id": "first/1/0:colour/0",
        "messages": [
            {"role": "system", "content": "Put the answer in a box."},
            {"role": "user", "content": "Which colour is it?"},
            {"role": "assistant", "content": "It is \\boxed{red}"},
        ],
        "images": [f"images/{picture.name}"],
        "source": "shapes",
        "answer": "red",
        "reward": 1.1,
        "outcome": "correct",
        "pass_rate": 0.5,
        "run": "first",
        "step": 1,
        "weight_version": 1,
    }
    assert [row["pass_rate"] for row in rows] == [0.6, 0.5, 0.6, 0.6]


def test_sft_of_another_outcome_leaves_out_what_has_no_text_or_was_cut(run: Path, tmp_path: Path) -> None:
    rows = exported(run, tmp_path / "out", to="sft", outcome=["incorrect"])
    assert [row["messages"][-1]["content"] for row in rows] == [
        "so \\boxed{3}",
        "\\boxed{5}",
        "\\boxed{5}",
    ]
    counts = {"stored": 10, "outcome incorrect": 5, "response has text": 4, "responses that ended": 3}
    assert manifest_of(tmp_path / "out")["counts"] == counts


def test_pairs_without_grades_are_right_against_wrong(run: Path, tmp_path: Path) -> None:
    rows = exported(run, tmp_path / "out", to="pairs")
    assert [(row["id"], row["chosen"], row["rejected"]) for row in rows] == [
        ("first/1/0:1+1", "so \\boxed{2}", "so \\boxed{3}"),
        ("first/1/0:colour", "It is \\boxed{red}", "It is \\boxed{blue}"),
    ]
    assert list(rows[0]) == [
        "id", "messages", "images", "source", "chosen", "rejected", "chosen_score", "rejected_score",
    ]  # fmt: skip
    assert rows[0]["messages"] == [{"role": "user", "content": "What is 1+1?"}]
    assert (rows[0]["chosen_score"], rows[0]["rejected_score"]) == (1.1, 0.1)
    assert manifest_of(tmp_path / "out")["rule"].startswith("no part is graded from 1 to 5: chosen is correct")


def graded(*answers: tuple[str, float | None]) -> list[Answer]:
    return [Answer(text=text, grade=grade, correct=grade == 5) for text, grade in answers]


def test_pairs_by_grades_are_the_best_above_4_against_the_worst_below_2(tmp_path: Path) -> None:
    """Thresholds are strict: 4 is no chosen one, 2 no rejected one. Of equals the first counts; a cut one is none."""
    cut = Answer(text="fi", grade=5, finish=FinishReason.LENGTH)
    asked = [
        Asked(uid="a", answers=[cut, *graded(("four", 4), ("five", 5), ("five too", 5), ("one", 1), ("1.5", 1.5))]),
        Asked(uid="b", answers=graded(("four", 4), ("one", 1))),
        Asked(uid="c", answers=graded(("five", 5), ("two", 2))),
        Asked(uid="d", answers=graded(("low", 1.5), ("high", 4.5))),
        Asked(uid="e", answers=graded(("same", 5), ("same", 1))),
    ]
    store_of(tmp_path / "run", {1: asked})
    rows = exported(tmp_path / "run", tmp_path / "out", to="pairs")
    assert [(row["chosen"], row["rejected"], row["chosen_score"], row["rejected_score"]) for row in rows] == [
        ("five", "one", 5.0, 1.0),
        ("high", "low", 4.5, 1.5),
    ]
    manifest = manifest_of(tmp_path / "out")
    assert manifest["rule"] == "graded: chosen above 4, rejected below 2"
    assert manifest["counts"]["pairs"] == 3
    assert manifest["left_out"] == {"chosen and rejected have one text": 1}


def test_iterative_takes_the_first_5_of_groups_with_two_below_2(tmp_path: Path) -> None:
    cut = Answer(text="fi", grade=5, finish=FinishReason.LENGTH)
    asked = [
        Asked(uid="hard", answers=[cut, *graded(("x", 1), ("five", 5), ("y", 1.5), ("five too", 5), ("z", 4))]),
        Asked(uid="easy", answers=graded(("x", 1), ("five", 5), ("two", 2), ("five", 5))),
        Asked(uid="hopeless", answers=graded(("x", 1), ("y", 1), ("z", 4.5))),
        Asked(uid="unknown", answers=[*graded(("five", 5), ("x", 1)), Answer(text="n", correct=None)]),
    ]
    store_of(tmp_path / "run", {1: asked})
    rows = exported(tmp_path / "run", tmp_path / "out", to="iterative")
    assert [(row["id"], row["messages"][-1]["content"]) for row in rows] == [("run/1/0:hard/2", "five")]
    assert manifest_of(tmp_path / "out")["rule"] == (
        "graded: groups with 2 or more responses below 2 and one of 5; of each the first of 5 that ended by itself"
    )


def test_iterative_without_grades_goes_by_outcomes_and_says_so(tmp_path: Path) -> None:
    wrong = Answer(text="no", correct=False)
    asked = [
        Asked(uid="hard", answers=[wrong, wrong, Answer(text="yes")]),
        Asked(uid="no verdict is not wrong", answers=[wrong, Answer(text="?", correct=None), Answer(text="yes")]),
    ]
    store_of(tmp_path / "run", {1: asked})
    rows = exported(tmp_path / "run", tmp_path / "out", to="iterative")
    assert [row["id"] for row in rows] == ["run/1/0:hard/2"]
    assert manifest_of(tmp_path / "out")["rule"].startswith(
        "no part is graded from 1 to 5: groups with 2 or more incorr"
    )


def test_a_part_that_is_always_1_is_no_grade(tmp_path: Path) -> None:
    """`boxed_format` is 1.0 in every row of these stores; if it were a grade, no pair would be found."""
    store_of(tmp_path / "run", {1: [Asked(uid="a", answers=[Answer(text="yes"), Answer(text="no", correct=False)])]})
    assert len(exported(tmp_path / "run", tmp_path / "out", to="pairs")) == 1


def test_prompts_have_their_pass_rate_over_all_steps_and_their_own_columns(run: Path, tmp_path: Path) -> None:
    rows = exported(run, tmp_path / "out", to="prompts", format="jsonl")
    assert [(row["id"], row["samples"], row["verdicts"], row["correct"], row["pass_rate"]) for row in rows] == [
        ("1+1", 6, 5, 3, 0.6),
        ("colour", 2, 2, 1, 0.5),
        ("2+2", 2, 2, 0, 0.0),
    ]
    assert (rows[1]["choices"], rows[1]["image_size"]) == (["red", "blue"], [56, 56])
    assert "choices" not in rows[0]
    table = exported(run, tmp_path / "parquet", to="prompts")
    assert [row["choices"] for row in table] == [None, ["red", "blue"], None]


def test_prompts_of_one_uid_and_other_texts_are_two(tmp_path: Path) -> None:
    other = ({"role": "user", "content": "Something else"},)
    store_of(tmp_path / "a", {1: [Asked(uid="1", answers=[Answer(text="x")])]})
    store_of(tmp_path / "b", {1: [Asked(uid="1", messages=other, answers=[Answer(text="x")])]})
    export([tmp_path / "a", tmp_path / "b"], ExportConfig(to="prompts"), tmp_path / "out")
    assert [row["id"] for row in rows_of(tmp_path / "out")] == ["1", "1~2"]


def test_pictures_between_texts_make_all_contents_lists_of_parts(tmp_path: Path, media: Path) -> None:
    image, between = {"type": "image"}, [{"type": "text", "text": "First"}, {"type": "image"}]
    last = ({"role": "user", "content": between},)
    asked = [
        Asked(uid="plain", answers=[Answer(text="x")]),
        Asked(uid="first", answers=[Answer(text="y")], images=("red.png",)),
        Asked(uid="last", answers=[Answer(text="z")], images=("blue.jpeg",), messages=last),
    ]
    store_of(tmp_path / "run", {1: asked}, media)
    rows = exported(tmp_path / "run", tmp_path / "out", to="sft", format="jsonl")
    answer = {"role": "assistant", "content": [{"type": "text", "text": "x"}]}
    assert rows[0]["messages"] == [{"role": "user", "content": [{"type": "text", "text": "What is plain?"}]}, answer]
    assert rows[1]["messages"][0]["content"] == [image, {"type": "text", "text": "What is first?"}]
    assert rows[2]["messages"][0]["content"] == between


def test_messages_that_say_more_than_text_are_for_raw_exports(tmp_path: Path) -> None:
    called = ({"role": "user", "content": "x"}, {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]})
    store_of(tmp_path / "run", {1: [Asked(uid="a", messages=called, answers=[Answer(text="x")])]})
    with pytest.raises(DataError, match="has the key 'tool_calls': only raw rollouts can carry it"):
        exported(tmp_path / "run", tmp_path / "out", to="sft")
    [row] = exported(tmp_path / "run", tmp_path / "raw")
    assert json.loads(row["messages"]) == list(called)


def test_columns_of_prompts_without_a_common_type_are_named(tmp_path: Path) -> None:
    asked = [
        Asked(uid=str(n), answers=[Answer(text="x")], extra={"level": level}) for n, level in enumerate([1, "hard"])
    ]
    store_of(tmp_path / "run", {1: asked})
    with pytest.raises(DataError, match=r"own columns have values of several types: .*level"):
        exported(tmp_path / "run", tmp_path / "out", to="prompts")


@pytest.mark.parametrize("version", ["1", "2"])
def test_shards_of_old_and_new_schemas_are_exported_together(tmp_path: Path, version: str) -> None:
    asked = {step: [Asked(uid=str(step), answers=[Answer(text="x"), Answer(text="y")])] for step in (1, 2)}
    store = store_of(tmp_path / "run", asked)
    new = {target: exported(tmp_path / "run", tmp_path / f"new-{target}", to=target) for target in ("sft", "prompts")}
    old_shard(store, 1, version)
    for target, rows in new.items():
        assert exported(tmp_path / "run", tmp_path / f"old-{target}", to=target) == rows
    assert [row["extra"] for row in exported(tmp_path / "run", tmp_path / "raw")] == [None, None, "{}", "{}"]
    old_shard_alone = exported(tmp_path / "run", tmp_path / "alone", steps="1", to="sft")
    assert old_shard_alone == [row | {"pass_rate": 1.0} for row in new["sft"][:2]]


def test_pictures_that_the_first_schema_did_not_keep_are_named(tmp_path: Path, media: Path) -> None:
    asked = [
        Asked(uid="a", images=("red.png",), answers=[Answer(text="x")]),
        Asked(uid="b", answers=[Answer(text="y")]),
    ]
    old_shard(store_of(tmp_path / "run", {1: asked}, media), 1, "1")
    with pytest.raises(
        DataError, match=r"names the picture 'red\.png', which its run did not keep: leave such rows out"
    ):
        exported(tmp_path / "run", tmp_path / "out", to="sft")
    [row] = exported(tmp_path / "run", tmp_path / "out", to="sft", where="len(images) = 0")
    assert row["id"] == "run/1/0:b/0"
