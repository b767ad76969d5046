"""What the page is told of runs: curves, rows, a group, tokens; and the line for what cannot be told."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as Bytes
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from pangu_rl.errors import DataError, UserError
from pangu_rl.records import SamplingParams
from pangu_rl.view.opened import Opened
from pangu_rl.view.rollouts import PAGE
from pangu_rl.view.serve import listening
from pangu_rl.view.tokens import pieces
from rollout.shards import live_shards
from rollout.store import RolloutStore
from tests.unit.report.drawn_run import HOSTILE, build_run, sums
from tests.unit.view.opened_page import asked, client_of, refused

STEPS = 9


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("view"), steps=STEPS)


@pytest.fixture(scope="module")
def client(run: Path) -> TestClient:
    return client_of(run)


def panel(sections: list, title: str) -> dict:
    return next(one for section in sections for one in section["panels"] if one["title"] == title)


def test_curves_stand_side_by_side_and_say_who_lacks_a_metric(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "sft"
    other.mkdir()
    rows = [{"step": step, "train/nll": 3.0 - step, "train/loss": 2.0, "train/lr": 1e-4} for step in (1, 2)]
    (other / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sections = asked(client_of(run, other), "curves")
    assert [section["section"] for section in sections] == ["Results", "Responses", "Training", "Time"]
    reward, nll = panel(sections, "Reward"), panel(sections, "Negative log-likelihood")
    assert reward["curves"][0]["points"][0] == [1, pytest.approx(0.33)] and reward["without"] == ["sft"]
    assert nll["curves"] == [{"run": "sft", "label": "nll", "points": [[1, 2.0], [2, 1.0]]}]
    assert nll["without"] == ["a run"] and panel(sections, "Loss")["unit"] == "of the objective"
    assert panel(sections, "Time per phase")["stacked"]
    assert [
        one["without"] for section in asked(client_of(run, other), "curves", runs="sft") for one in section["panels"]
    ] == [[]] * 3


def test_a_run_that_goes_on_is_told_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("trainer: {steps: 40}\n")
    client = client_of(tmp_path)
    assert asked(client, "runs")["runs"][0]["step"] == 0 and asked(client, "curves") == []
    assert asked(client, "rollouts")["total"] == 0
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/loss": 1.0}\n{"step": 2, "tra')
    RolloutStore(tmp_path).append(1, [sums(1)], SamplingParams())
    told = asked(client, "runs")["runs"][0]
    assert (told["step"], told["steps"], told["rollouts"]) == (1, 40, True) and told["age"] < 600
    assert panel(asked(client, "curves"), "Loss")["curves"][0]["points"] == [[1, 1.0]]
    assert asked(client, "rollouts")["total"] == 3
    RolloutStore(tmp_path).append(2, [sums(2)], SamplingParams())
    assert asked(client, "rollouts")["total"] == 6


def test_pages_of_rollouts_newest_first(client: TestClient) -> None:
    first, second = asked(client, "rollouts"), asked(client, "rollouts", page=1)
    assert first["total"] == second["total"] == 7 * STEPS
    assert len(first["rows"]) == PAGE and len(second["rows"]) == 7 * STEPS - PAGE
    uids = [row["uid"] for row in first["rows"] + second["rows"]]
    assert uids[0] == f"{STEPS}:h/1" and uids[-1] == "1:s/0" and len(set(uids)) == len(uids)
    assert asked(client, "rollouts", page=2)["rows"] == []


@pytest.mark.parametrize(
    ("question", "total", "first"),
    [
        ({"where": "reward > 0.5 and step > 4"}, 10, "9:g/0"),
        ({"where": "score['boxed_accuracy'] = 1"}, 9, "9:s/0"),
        ({"search": "i AM not"}, 9, "9:s/2"),
        ({"search": "onload=alert(1)"}, 18, "9:h/1"),
        ({"search": "a' or 'a' = 'a"}, 0, None),
        ({"outcome": "timeout"}, 9, "9:h/1"),
        ({"sort": "best"}, 63, "9:s/0"),
        ({"sort": "worst", "outcome": "unparsable"}, 9, "9:h/0"),
        ({"sort": "oldest"}, 63, "1:s/0"),
        ({"where": "images is not null and len(images) > 0", "sort": "longest"}, 18, "9:g/1"),
    ],
)
def test_filters(client: TestClient, question: dict, total: int, first: str | None) -> None:
    found = asked(client, "rollouts", **question)
    assert found["total"] == total
    assert (found["rows"][0]["uid"] if found["rows"] else None) == first


@pytest.mark.parametrize(
    ("question", "line"),
    [
        ({"where": "rewrd > 0"}, "no column 'rewrd': did you mean reward?"),
        ({"where": "1; drop table x"}, "not one SQL condition"),
        ({"where": "(select count(*) from read_text('/etc/passwd')) > 0"}, "holds a subquery"),
        ({"where": "text::int > 1"}, "Could not convert"),
        ({"where": "reward"}, "is DOUBLE, not true or false"),
        ({"outcome": "wrong"}, "no outcome 'wrong'"),
        ({"sort": "random()"}, "no order 'random()'"),
        ({"page": "-1"}, "page is '-1', and is to be a whole number"),
        ({"runs": "other"}, "no run 'other' is open: a run"),
    ],
)
def test_what_cannot_be_asked_is_one_line(client: TestClient, question: dict, line: str) -> None:
    assert line in refused(client, "rollouts", **question)


def test_a_group_with_its_picture_places_scores_and_votes(client: TestClient, run: Path) -> None:
    group = asked(client, "group", run="a run", step=2, group="2:g")
    assert group["messages"][1] == ["user", "[picture]\nWhere is the circle? Answer with a box."]
    assert group["gold_places"] == {"shapes": [{"corners": [[20, 30], [60, 70]], "name": ""}], "space": "pixel"}
    first, second = group["completions"]
    assert first["places"]["shapes"][0]["corners"] == [[24, 28], [66, 70]]
    assert first["parts"] == [{"name": "boxed_accuracy", "value": 0.8, "outcome": "correct", "detail": ""}]
    assert (
        first["votes"] == [{"scorer": "a", "criterion": "b", "score": "4", "reason": "near"}] and second["votes"] == []
    )
    sha = group["pictures"][0]["sha256"]
    assert client.get(f"/media/{sha}").status_code == 200 and group["pictures"][0]["name"] == "scene.png"
    assert "no group '9:x'" in refused(client, "group", run="a run", step=2, group="9:x")
    assert "no rollouts of step 99" in refused(client, "group", run="a run", step=99, group="2:g")


def test_a_picture_that_is_gone_is_a_placeholder(tmp_path: Path) -> None:
    run = build_run(tmp_path, steps=1)
    next((run / "rollouts" / "images").iterdir()).unlink()
    assert asked(client_of(run), "group", run="a run", step=1, group="1:g")["pictures"] == [
        {"sha256": None, "name": "scene.png"}
    ]


def test_hostile_text_comes_as_text_and_cut(client: TestClient) -> None:
    answer = client.get("/api/group", params={"run": "a run", "step": 1, "group": "1:h"})
    assert answer.headers["content-type"] == "application/json" and len(answer.content) < 30_000
    assert not set(answer.text) & set("\u202e\u2066\x1b\x00")
    texts = [one["text"] for one in answer.json()["completions"]]
    assert "<script>document.title='pwned'</script>" in texts[0] and "[U+202E]gnp.exe" in texts[0]
    assert f"[... {len(HOSTILE) + 2**20 + len('the end') - 4000:,} characters left out ...]" in texts[0]
    row = asked(client, "rollouts", where="\"group\" = '1:h'")["rows"][1]
    assert len(row["text"]) < 400 and row["text"].endswith("…")


def test_tokens_are_numbers_without_a_vocabulary(client: TestClient) -> None:
    told = asked(client, "tokens", run="a run", step=1, uid="1:s/1")
    assert told["pieces"][:3] == ["0 ", "1 ", "2 "] and "numbers, since tokenizer.json" in told["note"]
    assert told["logprobs"] == [-0.5] * 16 and told["versions"] is None
    assert asked(client, "tokens", run="a run", step=3, uid="3:s/0")["versions"] == [2] * 4 + [3] * 17
    assert "no completion '1:s/9'" in refused(client, "tokens", run="a run", step=1, uid="1:s/9")


def test_how_far_the_learner_is_from_the_sampler_at_each_token(client: TestClient) -> None:
    """Learner 1.5, -0.75, -0.47 and then -0.5, sampler -0.5 each: the differences, and 0 from there on."""
    told = asked(client, "tokens", run="a run", step=2, uid="2:s/1")
    assert told["mismatch"][:3] == pytest.approx([2.0, -0.25, 0.03], abs=1e-6) and told["unmatched"] == ""
    assert told["mismatch"][3:] == [0.0] * 13
    aside = asked(client, "tokens", run="a run", step=2, uid="2:s/2")
    assert aside["mismatch"] is None and "did not train on this answer" in aside["unmatched"]
    older = asked(client, "tokens", run="a run", step=1, uid="1:s/1")
    assert older["mismatch"] is None and "has no log-probs of the learner: it is older" in older["unmatched"]


def test_tokens_join_to_the_text_and_half_a_character_waits_for_the_other_half(tmp_path: Path) -> None:
    """Byte-level pieces without merges: a token is a byte, and é has two (C3 A9)."""
    alphabet = {letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = Tokenizer(BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = ByteLevel(add_prefix_space=False), Bytes()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    ids = tokenizer.encode("aé <b>\u202e").ids
    found = pieces(tmp_path / "tokenizer.json", ids)
    assert len(found) == len(ids) and found[:4] == ["a", "", "é", " "]
    assert "".join(found) == "aé <b>[U+202E]"


def test_pairs_of_a_stage_that_makes_them(tmp_path: Path) -> None:
    rows = [
        {"id": f"p{n}", "messages": [{"role": "user", "content": "<b>\u202e"}], "chosen": "yes", "rejected": "no"}
        for n in range(23)
    ]
    rows[1]["rejected"] = "yes"
    (tmp_path / "config.yaml").write_text("trainer: {steps: null}\n")
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    client = client_of(tmp_path)
    told = asked(client, "pairs", run=tmp_path.name)
    assert len(told["rows"]) == 20 and told["more"] and "are equal" in told["rows"][1]["bad"]
    assert (told["rows"][0]["chosen"], told["rows"][0]["rejected"]) == ("yes", "no")
    assert "[U+202E]" in told["rows"][0]["messages"][0][1] and "<b>" in told["rows"][0]["messages"][0][1]
    last = asked(client, "pairs", run=tmp_path.name, page=1)
    assert [row["uid"] for row in last["rows"]] == ["p20", "p21", "p22"] and not last["more"]


def test_a_pipeline_is_its_graph_with_what_is_over(tmp_path: Path) -> None:
    pairs, mean = "{stage: pairs, takes: {model.path: sft.model}}", "{stage: merge, models: [sft]}"
    stages = f"{{sft: {{stage: sft}}, pairs: {pairs}, mean: {mean}}}"
    (tmp_path / "config.yaml").write_text(f"stages: {stages}\n")
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "metrics.jsonl").write_text('{"step": 1, "train/loss": 1.0}\n')
    (tmp_path / "sft" / "pipeline_done.json").write_text('{"seconds": {"steps": 2.5, "last_start": 1.0}}')
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "pipeline_begun.json").write_text("{}")
    client = client_of(tmp_path)
    told = asked(client, "pipeline", name=tmp_path.name)["stages"]
    assert [(one["name"], one["depth"], one["state"]) for one in told] == [
        ("sft", 0, "over"),
        ("pairs", 1, "begun"),
        ("mean", 1, "waits"),
    ]
    assert told[0]["seconds"] == 3.5
    assert told[1]["from"] == [{"stage": "sft", "output": "model", "key": "model.path"}]
    assert [run["name"] for run in asked(client, "runs")["runs"]] == [f"{tmp_path.name}/sft", f"{tmp_path.name}/pairs"]
    assert "no pipeline 'x' is open" in refused(client, "pipeline", name="x")


def test_what_is_no_run_or_newer_or_named_twice(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such run directory"):
        Opened([tmp_path / "nope"])
    with pytest.raises(DataError, match="no run directory, it has neither"):
        Opened([tmp_path])
    with pytest.raises(DataError, match="named twice"):
        Opened([run, run / ".." / run.name])
    newer = build_run(tmp_path / "newer", steps=1)
    shard = live_shards(newer / "rollouts")[0].path
    pq.write_table(pq.read_table(shard).replace_schema_metadata({b"pangu_rl.rollouts": b"99"}), shard)
    with pytest.raises(DataError, match="rollout schema 99, this version reads"):
        Opened([newer])
    other = build_run(tmp_path / "other", steps=1)
    assert list(Opened([run, other]).runs()) == [f"{run.parent.name}/a run", "other/a run"]


def test_a_port_that_is_taken_is_one_line() -> None:
    with listening(0) as first:
        port = first.getsockname()[1]
        with pytest.raises(UserError, match=f"--port {port}: 127.0.0.1:{port} is not to be had"):
            listening(port)
