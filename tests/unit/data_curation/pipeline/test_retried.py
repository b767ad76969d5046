"""A cause that was mended outside of the rows: the next run notices, and does no more anew than stands on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from data_curation.operators.text.held_out import _for_questions
from data_curation.pipeline.operator import named_content
from data_curation.pipeline.run import run_pipeline
from pangu_rl.errors import RunError
from tests.unit.data_curation.pipeline.builders import contents, lines_of, own, pipeline, write_jsonl

OPERATORS = [own("no_odd"), own("largest", keep=90), {"name": "blank_pictures", "args": {}}]


def with_pictures(folder: Path) -> Path:
    """Forty rows; the first shard's show `a.png`, those behind it `b.png`."""
    rows = [{"id": f"r{n}", "n": 2 * n, "images": ["a.png" if n < 8 else "b.png"]} for n in range(40)]
    return write_jsonl(folder / "in.jsonl", rows)


def draw(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        Image.linear_gradient("L").save(folder / name)
    return folder


def test_another_media_root_is_named_and_all_is_done_again(tmp_path: Path) -> None:
    source = with_pictures(tmp_path)
    draw(tmp_path / "right", "a.png", "b.png")
    (tmp_path / "wrong").mkdir()
    with pytest.raises(RunError, match="mend their cause and run again, which tries them again"):
        run_pipeline(pipeline(source, tmp_path / "out", OPERATORS, media_root=str(tmp_path / "wrong")))
    said: list[str] = []
    right = {"media_root": str(tmp_path / "right")}
    assert run_pipeline(pipeline(source, tmp_path / "out", OPERATORS, **right), said.append).rows == 41
    roots = f"media_root was {tmp_path / 'wrong'} and is {tmp_path / 'right'}"
    assert said[0] == f"stage 0 and later are computed again: {roots}"
    run_pipeline(pipeline(source, tmp_path / "fresh", OPERATORS, **right))
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


@pytest.mark.parametrize("at", [0, 2])
def test_rows_that_ended_in_an_error_are_tried_again_and_no_others(tmp_path: Path, at: int) -> None:
    """In the first stage of two, whose set operator then decides anew by all rows; or in the last one. The first shard
    of that stage, without an error, stands."""
    source, media = with_pictures(tmp_path), draw(tmp_path / "media", "a.png")
    operators = [own("no_odd"), own("largest", keep=90)]
    operators.insert(at, {"name": "blank_pictures", "args": {}})
    config = pipeline(source, tmp_path / "out", operators, media_root=str(media))
    with pytest.raises(RunError, match=r"rows ended in an error"):
        run_pipeline(config)
    draw(media, "b.png")
    said: list[str] = []
    assert run_pipeline(config, said.append).rows == 41
    assert said[0] == "rows that ended in an error are tried again, with those of their shards"
    blocks = len(list((tmp_path / "out/rows").iterdir()))
    assert said[1 + at // 2].partition(": ")[2].startswith(f"{blocks - 1} of {blocks} blocks")
    run_pipeline(pipeline(source, tmp_path / "fresh", operators, media_root=str(media)))
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_errors_that_are_allowed_stand(tmp_path: Path) -> None:
    source, media = with_pictures(tmp_path), draw(tmp_path / "media", "a.png")
    with pytest.raises(RunError):
        run_pipeline(pipeline(source, tmp_path / "out", OPERATORS[2:], media_root=str(media)))
    done = len(list((tmp_path / "out/stages/00/done").iterdir()))
    said: list[str] = []
    more = {"media_root": str(media), "max_error_rate": 1.0}
    assert run_pipeline(pipeline(source, tmp_path / "out", OPERATORS[2:], **more), said.append).rows == 8
    blocks = len(list((tmp_path / "out/rows").iterdir()))
    assert said[0].partition(": ")[2].startswith(f"{blocks - done} of {blocks} blocks") and done


def test_a_folder_that_a_setting_names_is_part_of_it(tmp_path: Path) -> None:
    """By the names and the content of its files; not by pictures, and signs are no folders."""
    source, prompts = tmp_path / "in.jsonl", tmp_path / "held"
    prompts.mkdir()
    write_jsonl(source, [{"id": name, "prompt": f"What is {name}?", "answer": name} for name in ("left", "right")])
    for name, others in (("left", ["right"]), ("right", ["left"])):
        write_jsonl(prompts / "a.jsonl", [{"prompt": f"what is {name}", "answer": name}])
        held_out = {"name": "held_out", "args": {"prompts": [str(prompts)]}}
        said: list[str] = []
        _for_questions.cache_clear()  # a process reads it once
        run_pipeline(pipeline(source, tmp_path / "out", [held_out]), said.append)
        assert [row["id"] for row in lines_of(tmp_path / "out/rows")] == others
    assert said[0] == "stage 0 and later are computed again: operator held_out: a file that it names was changed"
    before = named_content(str(prompts))
    draw(prompts, "a.png")
    assert named_content(str(prompts)) == before
    (prompts / "a.jsonl").rename(prompts / "b.jsonl")
    assert named_content(str(prompts)) != before
    assert [sign for sign in ("", ".", "/", "~", "../") if named_content(sign)] == []
