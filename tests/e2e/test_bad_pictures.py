"""Pictures that cannot be used: `pangu-rl grpo` leaves one line with file, row and both values, and starts nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e import runs
from tests.e2e.test_bad_input import complaint
from tests.unit.data.vl_folder import build_vl_folder, draw

ASK = {"type": "text", "text": "What is 1 + 1?"}
IMAGE = {"type": "image"}


@pytest.fixture(scope="module")
def vl_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_vl_folder(tmp_path_factory.mktemp("vl"))


@pytest.fixture
def config(vl_model: Path, tmp_path: Path) -> Path:
    media = tmp_path / "media"
    draw(media / "a.png", 56, 56)
    draw(media / "wide.png", 448, 112)
    cut = draw(media / "cut.png", 56, 56)
    cut.write_bytes(cut.read_bytes()[:-2000])
    (media / "empty.png").touch()
    draw(tmp_path / "outside.png", 56, 56)
    (media / "link.png").symlink_to(tmp_path / "outside.png")
    Image.new("1", (8000, 8000)).save(media / "bomb.png")
    draw(media / "line.png", 402, 2)
    frames = [Image.new("RGB", (56, 56), colour) for colour in ("red", "blue")]
    frames[0].save(media / "moving.gif", save_all=True, append_images=frames[1:])
    data = {"train": str(tmp_path / "rows.jsonl"), "max_prompt_tokens": 48, "media_root": str(media)}
    return runs.write_config(tmp_path, vl_model, data=data)


def write_rows(tmp_path: Path, *bad: dict) -> None:
    rows = [{"id": "ok", "prompt": "What is 1 + 2?", "answer": "3", "images": ["a.png"]}, *bad]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def shown(*images: str, content: object = "What is 1 + 1?") -> dict:
    return {"messages": [{"role": "user", "content": content}], "answer": "2", "images": list(images)}


CASES = {
    "more pictures than placeholders": (
        shown("a.png", "a.png", content=[IMAGE, ASK]),
        ["images names 2 pictures (a.png, a.png)", "1 image parts"],
    ),
    "fewer pictures than placeholders": (
        shown("a.png", content=[IMAGE, ASK, IMAGE]),
        ["images names 1 picture (a.png)", "2 image parts"],
    ),
    "missing file": (shown("b.png"), ["picture 'b.png'", "No such file"]),
    "truncated file": (shown("a.png", "cut.png"), ["picture 'cut.png'", "truncated"]),
    "zero-byte file": (shown("empty.png"), ["picture 'empty.png'", "0 bytes"]),
    "path that leaves the media root": (shown("../outside.png"), ["picture '../outside.png'", "leaves the media root"]),
    "link that leaves the media root": (shown("link.png"), ["picture 'link.png'", "leaves the media root"]),
    "absolute path": (shown("/etc/passwd"), ["picture '/etc/passwd'", "relative to the media root"]),
    "address": (shown("http://127.0.0.1/a.png"), ["picture 'http://127.0.0.1/a.png'", "relative to the media root"]),
    "too long with its picture": (
        shown("wide.png"),
        ["(64 of them its pictures')", "data.max_prompt_tokens is 48"],
    ),
    "decompression bomb": (shown("bomb.png"), ["picture 'bomb.png'", "8000 x 8000 pixels", "50000000"]),
    "aspect ratio": (shown("line.png"), ["picture 'line.png'", "201.0", "200"]),
    "animation": (shown("moving.gif"), ["picture 'moving.gif'", "animated GIF"]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_bad_picture_is_named_or_its_row_left_out(
    name: str, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    row, expected = CASES[name]
    write_rows(tmp_path, row)
    line = complaint(monkeypatch, capsys, config)
    assert f"{tmp_path}/rows.jsonl, row 2: " in line
    assert all(part in line for part in expected), line
    assert "data.on_bad_row" in line
    assert not (tmp_path / "run").exists()


def test_skipping_leaves_bad_pictures_out_and_says_so(config: Path, tmp_path: Path) -> None:
    from pangu_rl.config.load import load_config
    from pangu_rl.config.stages import GrpoConfig
    from pangu_rl.loops.inputs.prompts import read_grpo_inputs

    write_rows(tmp_path, *(row for row, _ in CASES.values()))
    inputs = read_grpo_inputs(load_config(GrpoConfig, config, ["data.on_bad_row=skip"]))
    assert [prompt.uid for prompt in inputs.train] == ["ok"]
    assert len(inputs.skipped) == len(CASES)
    assert list(inputs.loader.digests) == ["a.png"]


def test_no_media_root(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A missing setting is no fault of the row: it also ends a run that skips bad rows."""
    write_rows(tmp_path)
    line = complaint(monkeypatch, capsys, config, "data.media_root=null", "data.on_bad_row=skip")
    assert "rows.jsonl, row 1: key images names a.png, and data.media_root is not set" in line
    line = complaint(monkeypatch, capsys, config, "data.media_root=/no/such/folder")
    assert "data.media_root /no/such/folder is no folder" in line


def test_a_text_model(
    config: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    write_rows(tmp_path)
    line = complaint(monkeypatch, capsys, config, f"model.path={tiny_model}")
    assert f"row 1: key images names a.png, and model.path {tiny_model} is a text model" in line
    assert not (tmp_path / "run").exists()
