"""Rows that are judged when they are drawn: the same rows as those that were read at the start, and only these."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pangu_rl.config.load import checked
from pangu_rl.config.stages import DpoConfig, SftConfig
from pangu_rl.data import drawn_rows
from pangu_rl.data.drawn_rows import IndexedRows, ReadRows, RowStream
from pangu_rl.data.files.row_files import RowFiles
from pangu_rl.data.index.build import build_index
from pangu_rl.data.queries import load_queries
from pangu_rl.errors import ConfigError, DataError
from pangu_rl.loops.inputs.conversations import read_sft_inputs
from pangu_rl.loops.inputs.pairs import read_dpo_inputs

ROWS = [{"id": f"r{n}", "prompt": f"What is {n} + 1?", "response": f"It is {n + 1}."} for n in range(40)]
PAIRS = [{"id": f"p{n}", "prompt": f"What is {n} + 1?", "chosen": "yes", "rejected": "no"} for n in (3, 30)]


THOUGHTS = [
    {
        "id": f"t{n}",
        "conversations": [
            {"from": "human", "value": f"{n}?"},
            {"from": "gpt", "value": f"<think>hm</think>It is {n}."},
            {"from": "human", "value": "Sure?"},
            {"from": "gpt", "value": "<think>hm</think>Yes."},
        ],
        "audio": "a.mp3",
    }
    for n in range(20)
]
"""Of another format, with reasoning, two trained turns, and a column that looks meant for training."""


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def sft(folder: Path, model: Path, rows: list[dict], **data: Any) -> SftConfig:
    tree = {
        "model": {"path": str(model)},
        "data": {"train": write(folder / "rows.jsonl", rows), "max_tokens": 64} | data,
        "trainer": {"run_dir": str(folder / "run"), "steps": 1, "sequences_per_step": 4},
    }
    return checked(SftConfig, tree, "test")


def dpo(folder: Path, model: Path) -> DpoConfig:
    data = {"train": write(folder / "pairs.jsonl", PAIRS), "sft": write(folder / "rows.jsonl", ROWS), "sft_share": 0.5}
    tree = {
        "model": {"path": str(model)},
        "data": data,
        "trainer": {"run_dir": str(folder / "run"), "steps": 1, "pairs_per_step": 2},
    }
    return checked(DpoConfig, tree, "test")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Any file counts as large; the numbers of the rows that were read."""
    monkeypatch.setattr(drawn_rows, "READ_WHOLE", 0)
    read: list[int] = []
    raw = RowFiles.raw
    monkeypatch.setattr(RowFiles, "raw", lambda files, row: (read.append(row), raw(files, row))[1])
    return read


def uids(stream: RowStream, n: int) -> list[str]:
    return [row.uid for _, row in stream.next(n)]


def test_sft_draws_the_rows_that_it_would_have_read(tmp_path, tiny_model, monkeypatch):
    config = sft(tmp_path, tiny_model, ROWS)
    whole = read_sft_inputs(config).train.stream(shuffle=True, seed=5)
    monkeypatch.setattr(drawn_rows, "READ_WHOLE", 0)
    inputs = read_sft_inputs(config)
    assert inputs.loader.digests == {} and len(inputs.train) == 40 and inputs.train.skipped == []
    assert uids(inputs.train.stream(shuffle=True, seed=5), 90) == uids(whole, 90)


def test_no_row_but_the_first_is_read_before_it_is_drawn(tmp_path, tiny_model, drawn):
    stream = read_sft_inputs(sft(tmp_path, tiny_model, ROWS)).train.stream(shuffle=True, seed=5)
    assert drawn == [0]
    taken = uids(stream, 6)
    assert [f"r{row}" for row in drawn[1:]] == taken


def test_a_resumed_stream_goes_on_and_knows_its_rows(tmp_path, tiny_model, drawn):
    rows = [*ROWS[:20], ROWS[20] | {"response": "long " * 100}, *ROWS[21:]]
    config = sft(tmp_path, tiny_model, rows, on_bad_row="skip")
    one, other = (read_sft_inputs(config).train.stream(shuffle=True, seed=5) for _ in range(2))
    first = uids(one, 45)
    assert "r20" not in first and one.left_out == {"bad_rows": 1}
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert uids(other, 30) == uids(one, 30) and other.left_out == one.left_out
    write(tmp_path / "rows.jsonl", ROWS)
    with pytest.raises(DataError, match="the checkpoint was made with other data"):
        read_sft_inputs(config).train.stream(shuffle=True, seed=5).load_state_dict(one.state_dict())


def test_a_bad_row_ends_the_run_when_it_is_drawn(tmp_path, tiny_model, drawn):
    rows = [*ROWS[:7], {"id": "bad", "messages": [{"role": "user", "content": "?"}]}, *ROWS[8:]]
    stream = read_sft_inputs(sft(tmp_path, tiny_model, rows)).train.stream(shuffle=False, seed=5)
    assert len(uids(stream, 7)) == 7
    with pytest.raises(DataError, match=r"rows.jsonl, row 8: messages end with a user turn.*on_bad_row to skip"):
        stream.next(1)


def test_a_file_of_other_rows_is_not_skipped_to_its_end(tmp_path, tiny_model, drawn):
    rows = [{"id": f"x{n}", "text": "no conversation"} for n in range(300)]
    stream = read_sft_inputs(sft(tmp_path, tiny_model, rows, on_bad_row="skip")).train.stream(shuffle=True, seed=0)
    with pytest.raises(DataError, match=r"fits no format.*; 101 bad rows on end: is this the right file"):
        stream.next(1)
    assert len(drawn) == 1 + 101
    with pytest.raises(DataError, match=r"rows.jsonl, row 1: fits no format.*on_bad_row to skip"):
        read_sft_inputs(sft(tmp_path, tiny_model, rows))


def test_dpo_reads_the_sft_rows_that_it_mixes_in_alone(tmp_path, tiny_model, drawn):
    inputs = read_dpo_inputs(dpo(tmp_path, tiny_model))
    assert drawn == [0] and len(inputs.train) == 2
    stream = inputs.sft.stream(shuffle=True, seed=1)
    assert len(uids(stream, 4)) == 4 < len(drawn) < 8
    everything = uids(stream, 34)  # the rest of the epoch's 38 rows that no pair asks
    assert len(set(everything)) == 34 and not {"r3", "r30"} & set(everything)
    uids(stream, 2)
    assert stream.left_out["asked_by_pairs"] >= 2


def test_sft_rows_that_pairs_ask_all_are_refused(tmp_path, tiny_model, drawn):
    config = dpo(tmp_path, tiny_model)
    write(tmp_path / "rows.jsonl", [ROWS[3], ROWS[30]])
    with pytest.raises(DataError, match="all of its 2 rows are asked_by_pairs"):
        read_dpo_inputs(config).sft.stream(shuffle=True, seed=1).next(1)


def test_of_a_large_file_of_queries_as_many_are_read_as_are_asked_for(tmp_path, drawn):
    path = Path(write(tmp_path / "queries.jsonl", ROWS))
    taken = load_queries(path, on_bad_row="refuse", read_answer=lambda reply: None, limit=5)
    assert drawn == [0, 0, 8, 16, 24, 32]
    assert [prompt.uid for prompt in taken.records] == [f"r{row}" for row in drawn[1:]]
    write(path, [*ROWS[:8], {"id": "x", "prompt": "", "answer": "1"}, *ROWS[9:]])
    with pytest.raises(DataError, match=r"queries.jsonl, row 9: key prompt is empty .mend it"):
        load_queries(path, on_bad_row="refuse", read_answer=lambda reply: None, limit=5)
    taken = load_queries(path, on_bad_row="skip", read_answer=lambda reply: None, limit=5)
    assert taken.numbers == [1, 17, 25, 33] and "row 9: key prompt is empty" in taken.skipped[0]


def test_drawn_rows_are_read_as_the_configuration_says(tmp_path, tiny_model, monkeypatch):
    how = {"pass_through": ["audio"], "turns": "last", "reasoning": "strip", "max_tokens": 256}
    config = sft(tmp_path, tiny_model, THOUGHTS, **how)
    whole = read_sft_inputs(config)
    monkeypatch.setattr(drawn_rows, "READ_WHOLE", 0)
    inputs = read_sft_inputs(config)
    assert isinstance(inputs.train, IndexedRows)
    assert inputs.loader.notes == whole.loader.notes == ("rows.jsonl: its rows are read as sharegpt",)
    taken = inputs.train.stream(shuffle=True, seed=5).next(30)
    assert taken == whole.train.stream(shuffle=True, seed=5).next(30)
    messages = taken[0][1].messages
    assert messages[-1]["content"] == "Yes." and messages[1]["train"] is False
    with pytest.raises(DataError, match=r"rows.jsonl, row 1: key audio looks like media"):
        read_sft_inputs(sft(tmp_path, tiny_model, THOUGHTS, **how | {"pass_through": []}))
    with pytest.raises(DataError, match=r"rows.jsonl, row 1: key prompt is missing"):
        read_sft_inputs(sft(tmp_path, tiny_model, THOUGHTS, **how | {"format": "pangu"}))


def test_a_column_that_no_row_may_have_is_found_when_its_row_is_drawn(tmp_path, tiny_model, drawn):
    rows = [*ROWS[:3], ROWS[3] | {"audio": "a.mp3"}]
    stream = read_sft_inputs(sft(tmp_path, tiny_model, rows)).train.stream(shuffle=False, seed=0)
    assert len(uids(stream, 3)) == 3
    with pytest.raises(DataError, match=r"rows.jsonl, row 4: key audio looks like media"):
        stream.next(1)


def test_what_an_index_cannot_know_is_read_whole(tmp_path, tiny_model, drawn):
    renamed = [{"key": f"k{n}", "prompt": f"{n}?", "response": "yes"} for n in range(4)]
    write(tmp_path / "more.jsonl", renamed)
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    for rows, data in (
        (renamed, {"columns": {"key": "id"}}),
        (ROWS, {"also": [{"path": str(tmp_path / "more.jsonl")}]}),
        (ROWS, {"train": str(tmp_path / "rows.json")}),
    ):
        assert isinstance(read_sft_inputs(sft(tmp_path, tiny_model, rows, **data)).train, ReadRows)
    assert drawn == []
    index = tmp_path / "index"
    build_index([tmp_path / "rows.jsonl"], index)
    with pytest.raises(ConfigError, match=r"index: an index of rows goes with none of data.columns, data.also"):
        read_sft_inputs(sft(tmp_path, tiny_model, ROWS, train=str(index), columns={"key": "id"}))


def test_a_run_of_drawn_rows_is_known_by_what_they_say(tmp_path, tiny_model, drawn):
    one = read_sft_inputs(sft(tmp_path, tiny_model, ROWS)).train.identity
    assert read_sft_inputs(sft(tmp_path, tiny_model, ROWS)).train.identity == one
    other = [*ROWS[:-1], ROWS[-1] | {"response": "It is 4."}]
    assert read_sft_inputs(sft(tmp_path, tiny_model, other)).train.identity != one


MIXED = [row | {"source": "a" if number < 30 else "b"} for number, row in enumerate(ROWS)]
"""30 of one source and 10 of another."""


def test_shares_hold_over_an_epoch_whether_rows_are_read_or_drawn(tmp_path, tiny_model, monkeypatch):
    """Half and half: each of the ten comes three times an epoch of sixty."""
    config = sft(tmp_path, tiny_model, MIXED, shares={"a": 0.5, "b": 0.5})
    read = read_sft_inputs(config)
    assert len(read.train) == 60
    assert read.loader.notes == ("source a: 30 rows, each 1 times", "source b: 10 rows, each 3 times")
    monkeypatch.setattr(drawn_rows, "READ_WHOLE", 0)
    for inputs in (read, read_sft_inputs(config)):
        epoch = [row for _, row in inputs.train.stream(shuffle=True, seed=1).next(60)]
        assert Counter(row.source for row in epoch) == {"a": 30, "b": 30}
        assert set(Counter(row.uid.partition("#")[0] for row in epoch if row.source == "b").values()) == {3}


def test_shares_by_tokens_are_of_the_tokens_that_are_trained_on(tmp_path, tiny_model):
    rows = [row | {"response": row["response"] + " Yes." * 4 * (row["source"] == "b")} for row in MIXED]
    by_tokens = read_sft_inputs(sft(tmp_path, tiny_model, rows, shares={"a": 1, "b": 1}, shares_by="tokens"))
    loader = by_tokens.loader
    tokens: Counter[str] = Counter()
    for row in by_tokens.train.records:
        tokens[row.source] += len(loader.encoder.conversation(row.messages).token_ids)
    assert tokens["b"] / tokens["a"] == pytest.approx(1, rel=0.03)


def test_shares_that_do_not_fit_are_refused(tmp_path, tiny_model, monkeypatch):
    for size in (drawn_rows.READ_WHOLE, 0):
        monkeypatch.setattr(drawn_rows, "READ_WHOLE", size)
        with pytest.raises(ConfigError, match=r"rows.jsonl has rows of source 'b', which data.shares does not name"):
            read_sft_inputs(sft(tmp_path, tiny_model, MIXED, shares={"a": 1}))
        with pytest.raises(ConfigError, match=r"data.shares.c is 1, but .*rows.jsonl has no row of that source"):
            read_sft_inputs(sft(tmp_path, tiny_model, MIXED, shares={"a": 1, "b": 1, "c": 1}))
    with pytest.raises(ConfigError, match=r"data\.shares are fractions that add up to 0.7"):
        sft(tmp_path, tiny_model, MIXED, shares={"a": 0.5, "b": 0.2})
    with pytest.raises(ConfigError, match=r"gives more\.jsonl the weight 2 beside data.shares"):
        sft(tmp_path, tiny_model, MIXED, shares={"a": 1}, also=[{"path": "more.jsonl", "weight": 2}])


def test_pairs_that_come_more_than_once_have_a_fingerprint(tmp_path, tiny_model):
    config = dpo(tmp_path, tiny_model)
    pairs = [pair | {"source": source} for pair, source in zip(PAIRS, "ab", strict=True)]
    write(tmp_path / "pairs.jsonl", [*pairs, {**pairs[0], "id": "p9", "prompt": "Is it?"}])
    data = config.data.model_copy(update={"shares": {"a": 1, "b": 1}})
    found = read_dpo_inputs(config.model_copy(update={"data": data}))
    assert sorted(pair.uid for pair in found.train) == ["p3", "p30", "p30#2", "p9"]
    assert len(found.fingerprint) == 32
