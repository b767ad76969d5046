"""Every stage that reads rows at its start reads videos, and names, counts and leaves out those that it cannot use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pangu_rl.algorithms.rejection_sampling import Candidate, Pair
from pangu_rl.config.evaluation import EvalConfig
from pangu_rl.config.load import checked
from pangu_rl.config.sampling import PairsConfig
from pangu_rl.config.stages import DpoConfig, GrpoConfig, SftConfig
from pangu_rl.data import drawn_rows
from pangu_rl.data.conversations import parse_conversation
from pangu_rl.data.pairs import parse_pair
from pangu_rl.loops.evaluation.eval_inputs import read_eval_inputs
from pangu_rl.loops.inputs.conversations import read_sft_inputs
from pangu_rl.loops.inputs.pairs import read_dpo_inputs
from pangu_rl.loops.inputs.prompts import read_grpo_inputs
from pangu_rl.loops.sampling.iterative_round import conversation_row
from pangu_rl.loops.sampling.queries import read_queries
from pangu_rl.loops.sampling.run_pairs import pair_row
from tests.unit.data.vl_folder import VIDEO, build_vl_folder
from tests.unit.pretrain.processing.drawn_videos import draw_video

ANSWERS = {"response": "grey", "answer": "grey", "chosen": "grey", "rejected": "red"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_vl_folder(tmp_path_factory.mktemp("vl"))


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    content = draw_video(folder / "sound.mp4", range(0, 240, 4)).read_bytes()
    (folder / "cut.mp4").write_bytes(content[: len(content) // 2])
    draw_video(folder / "long.mp4", [0] * 200)
    return folder


def config(schema: type, folder: Path, model: Path, media: Path, keys: tuple[str, ...], **data: Any) -> Any:
    """Four rows: sound at a drawn rate, sound as a time, truncated, and a time in a video of 20 s."""
    shown = [("drawn", "sound", False), ("precise", "sound", True), ("cut", "cut", False), ("long", "long", True)]
    rows = [
        {"id": name, "prompt": "Which colour?", "videos": [f"{video}.mp4"], "time_precise": precise}
        | {key: ANSWERS[key] for key in keys}
        for name, video, precise in shown
    ]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {"sets": {"all": str(path)}} if schema is EvalConfig else {"train": str(path)}
    if schema is PairsConfig:
        files = {"queries": str(path)}
    tree = {
        "model": {"path": str(model)},
        "data": files | {"media_root": str(media), "on_bad_row": "skip"} | data,
        "trainer": {"run_dir": str(folder / "run")},
    }
    if schema in (SftConfig, DpoConfig, GrpoConfig):
        tree["trainer"]["steps"] = 1
    if schema not in (SftConfig, DpoConfig):
        tree["rewards"] = {"functions": [{"name": "graded" if schema is PairsConfig else "boxed_accuracy"}]}
        tree["rollout"] = {"max_model_tokens": 256, "max_new_tokens": 16}
        tree["data"]["max_prompt_tokens"] = 128
    return checked(schema, tree, "test")


def assert_left_out(skipped: list[str]) -> None:
    assert len(skipped) == 2
    (cut,) = (line for line in skipped if "row 3" in line)
    (long,) = (line for line in skipped if "row 4" in line)
    assert "rows.jsonl" in cut and "video 'cut.mp4': " in cut
    assert "video 'long.mp4': 9 frames at 1 a second, the budget of a sample has 8" in long


def placeholders(rows: list) -> list[int]:
    return [list(row.token_ids).count(VIDEO) for row in rows]


def test_sft(tmp_path: Path, model: Path, media: Path) -> None:
    inputs = read_sft_inputs(config(SftConfig, tmp_path, model, media, ("response",)))
    assert_left_out(inputs.train.skipped)
    inputs.loader._put = lambda patches: patches
    drawn, precise = inputs.loader.conversations(inputs.train.records)
    assert placeholders([precise]) == [24] and placeholders([drawn])[0] % 4 == 0


def test_sft_rows_that_are_judged_when_they_are_drawn(
    tmp_path: Path, model: Path, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawn_rows, "READ_WHOLE", 0)
    inputs = read_sft_inputs(config(SftConfig, tmp_path, model, media, ("response",)))
    stream = inputs.train.stream(shuffle=False, seed=0)
    assert [row.uid for _, row in stream.next(3)] == ["drawn", "precise", "drawn"]
    assert stream.left_out == {"bad_rows": 2}


def test_dpo(tmp_path: Path, model: Path, media: Path) -> None:
    first, other = (
        read_dpo_inputs(config(DpoConfig, tmp_path, model, media, ("chosen", "rejected"), **{"max_tokens": 256}))
        for _ in range(2)
    )
    assert_left_out(first.skipped)
    assert [pair.videos for pair in first.train] == [("sound.mp4",)] * 2 and first.fingerprint == other.fingerprint


def test_grpo(tmp_path: Path, model: Path, media: Path) -> None:
    inputs = read_grpo_inputs(config(GrpoConfig, tmp_path, model, media, ("answer",)))
    assert_left_out(inputs.skipped)
    inputs.loader._put = lambda patches: patches
    assert placeholders(inputs.loader.prompts(inputs.train))[1] == 24


def test_evaluation_and_pairs(tmp_path: Path, model: Path, media: Path) -> None:
    found = read_eval_inputs(config(EvalConfig, tmp_path, model, media, ("answer",)))
    assert_left_out(found.skipped)
    queries = read_queries(config(PairsConfig, tmp_path, model, media, ("answer",)))
    assert_left_out(queries.skipped)
    assert [prompt.time_precise for prompt in queries.rows] == [False, True]


def test_rows_that_stages_write_show_what_was_asked(tmp_path: Path, model: Path, media: Path) -> None:
    _, precise = read_queries(config(PairsConfig, tmp_path, model, media, ("answer",))).rows
    good, bad = Candidate(uid="a", text="grey", score=5.0), Candidate(uid="b", text="red", score=1.0)
    for row, parse in (
        (conversation_row(precise, good), parse_conversation),
        (pair_row(precise, Pair(chosen=good, rejected=bad)), parse_pair),
    ):
        again = parse(row, "u")
        assert (again.videos, again.time_precise) == (("sound.mp4",), True)
        assert again.messages[0] == precise.messages[0]
