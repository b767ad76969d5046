"""An export is there whole or not at all; a store that changes or is broken is never read wrong."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pangu_rl.cli import app
from pangu_rl.config.export import ExportConfig
from pangu_rl.errors import DataError
from rollout.export import export as exporting
from rollout.export.folder import new_folder
from rollout.schema import VERSION_KEY
from tests.unit.rollout.export.conftest import STEPS
from tests.unit.rollout.export.exporting import contents, exported
from tests.unit.rollout.stored import Answer, Asked, store_of


@pytest.mark.parametrize("form", ["parquet", "jsonl", "hf"])
@pytest.mark.parametrize("limit", [200, 4000])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, form: str, limit: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """A limit on the size of files stands for the disk's; every write beyond it fails."""
    answers = [Answer(text=f"answer {n} " + os.urandom(32).hex()) for n in range(200)]
    store_of(tmp_path / "run", {1: [Asked(uid="a", answers=answers)]})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(DataError, match=r"out: .*(too large|No space).*; nothing was written") as caught:
            exported(tmp_path / "run", tmp_path / "out", to="sft", format=form)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert "Traceback" not in capfd.readouterr().err


def test_an_output_that_is_there_is_left_alone(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    exported(run, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(DataError, match="out: is there already; --output is a new folder"):
        exported(run, tmp_path / "out")
    assert contents(tmp_path / "out") == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="file: is there already"):
        exported(run, tmp_path / "file")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="link: is there already"):
        exported(run, tmp_path / "link")


def test_what_a_killed_export_left_is_cleared_and_a_living_one_is_not(run: Path, tmp_path: Path) -> None:
    left = tmp_path / ".out.partial"
    (left / "data").mkdir(parents=True)
    (left / "data" / "train-00000.parquet").write_bytes(b"PAR1 half")
    (left / "loose").write_bytes(b"x")
    assert len(exported(run, tmp_path / "out")) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with new_folder(tmp_path / "two") as folder:
        with pytest.raises(DataError, match="another export is writing it"):
            exported(run, tmp_path / "two")
        (folder / "mine").write_text("whole")
    assert contents(tmp_path / "two") == {"mine": b"whole"}


def test_a_run_that_resumes_in_the_middle_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(tmp_path / "run", {step: [Asked(uid="a", answers=[Answer(text="x")])] for step in (1, 2, 3)})
    write = exporting._write

    def resumed_meanwhile(*args: object) -> object:
        store.truncate_after(2)
        store_of(tmp_path / "run", {3: [Asked(uid="a", answers=[Answer(text="another")])]})
        return write(*args)

    monkeypatch.setattr(exporting, "_write", resumed_meanwhile)
    with pytest.raises(DataError, match=r"step_000003\.parquet: the run was resumed while it was read: do it again"):
        exported(tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_steps_that_a_run_adds_meanwhile_are_for_the_next_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_of(tmp_path / "run", {1: [Asked(uid="a", answers=[Answer(text="x")])]})
    write = exporting._write

    def more_meanwhile(*args: object) -> object:
        store_of(tmp_path / "run", {2: [Asked(uid="a", answers=[Answer(text="y")])]})
        return write(*args)

    monkeypatch.setattr(exporting, "_write", more_meanwhile)
    assert [row["text"] for row in exported(tmp_path / "run", tmp_path / "out")] == ["x"]


def newer(path: Path) -> None:
    pq.write_table(pq.read_table(path).replace_schema_metadata({VERSION_KEY: "6"}), path)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    """Every byte of the pages; the footer stays."""
    content = path.read_bytes()
    start = int.from_bytes(content[-8:-4], "little") + 8
    path.write_bytes(content[:4] + bytes(byte ^ 0xFF for byte in content[4:-start]) + content[-start:])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            newer,
            r"step_000002\.parquet: rollout schema 6, this version reads 1, 2, 3, 4 and 5",
        ),
        (half, r"step_000002\.parquet: not a readable Parquet file"),
        (flipped, r"the rollouts cannot be read: "),
    ],
)
def test_a_shard_that_cannot_be_read_is_one_line(tmp_path: Path, media: Path, spoil, message: str) -> None:
    store = store_of(tmp_path / "run", STEPS, media)
    spoil(store.directory / "step_000002.parquet")
    with pytest.raises(DataError, match=message) as caught:
        exported(tmp_path / "run", tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_picture_that_is_gone_or_changed_is_one_line(tmp_path: Path, media: Path) -> None:
    store = store_of(tmp_path / "run", STEPS, media)
    [picture] = (store.directory / "images").iterdir()
    picture.write_bytes(b"another")
    with pytest.raises(DataError, match="is not the picture that its name says"):
        exported(tmp_path / "run", tmp_path / "out", to="prompts")
    picture.unlink()
    with pytest.raises(DataError, match=r"No such file or directory in .*put it back, or leave its rows out"):
        exported(tmp_path / "run", tmp_path / "out")
    assert len(exported(tmp_path / "run", tmp_path / "out", where="len(images) = 0")) == 8


def test_a_store_cannot_name_a_file_outside_it(tmp_path: Path, media: Path) -> None:
    store = store_of(tmp_path / "run", STEPS, media)
    path = store.directory / "step_000001.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    for row in rows:
        row["images"] = [{**image, "path": "../../secret.png"} for image in row["images"]]
    (tmp_path / "secret.png").write_bytes((media / "red.png").read_bytes())
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), path)
    with pytest.raises(DataError, match=r"names the picture '\.\./\.\./secret\.png', which its run did not keep"):
        exported(tmp_path / "run", tmp_path / "out")


def test_two_runs_of_one_name_are_told_apart_and_one_run_is_taken_once(tmp_path: Path) -> None:
    for seed in ("0", "1"):
        store_of(tmp_path / seed / "grpo", {1: [Asked(uid="a", answers=[Answer(text=seed)])]})
    runs = [tmp_path / seed / "grpo" for seed in ("1", "0")]
    exporting.export(runs, ExportConfig(to="sft", format="jsonl"), tmp_path / "out")
    lines = (tmp_path / "out" / "data" / "train-00000.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert [(row["id"], row["messages"][1]["content"]) for row in found] == [
        ("grpo/1/0:a/0", "1"),
        ("grpo~2/1/0:a/0", "0"),
    ]
    with pytest.raises(DataError, match="named twice"):
        exporting.export([runs[0], tmp_path / "1" / ".." / "1" / "grpo"], ExportConfig(), tmp_path / "twice")


def test_the_command_line_counts_shows_and_writes(run: Path, tmp_path: Path) -> None:
    def printed(*arguments: str | Path) -> str:
        done = CliRunner().invoke(app, ["export", *map(str, arguments)], catch_exceptions=False)
        assert done.exit_code == 0
        return done.stdout

    made = json.loads(printed(run, "--to", "sft", "--format", "jsonl", "--output", tmp_path / "out", "--json"))
    assert (made["rows"], made["output"]) == (4, str(tmp_path / "out"))
    counted = printed(run, "--outcome", "correct", "--score", "reward>1", "--max-tokens", "4", "--dry-run")
    assert [line.split(maxsplit=1) for line in counted.splitlines()] == [
        ["10", "stored"],
        ["4", "outcome correct"],
        ["4", "score reward>1"],
        ["3", "max_tokens 4"],
    ]
    assert "boxed_accuracy" in printed(run, "--stats")
    stats = json.loads(printed(run, "--stats", "--json"))
    assert stats["parts"]["boxed_accuracy"] == {
        "rows": 10, "mean": 4 / 9, "min": 0.0, "max": 1.0, "no_verdict": 1,
        "outcomes": {"incorrect": 5, "correct": 4, "timeout": 1},
    }  # fmt: skip
    assert stats["response_tokens"] == {
        "mean": 4.3, "least": 3, "10 %": 3, "50 %": 3, "90 %": 9, "99 %": 9, "most": 9,
    }  # fmt: skip
    rates = {name: count for name, count in stats["pass_rate"].items() if count}
    assert rates == {"0 (never)": 1, "0.5 to 0.6": 1, "0.6 to 0.7": 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--where", "stepp > 1", "--output", "out"), "--where 'stepp > 1': no column 'stepp': did you mean step?"),
        ((), "export: --output DIR is missing; --stats and --dry-run need none"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(run: Path, tmp_path: Path, arguments, message: str) -> None:
    command = [sys.executable, "-m", "pangu_rl", "export", str(run), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {message}\n")


def test_a_shared_run_is_only_read(run: Path, tmp_path: Path) -> None:
    """Compared, since the rights of a file stop no administrator."""

    def state() -> dict[Path, tuple[int, bytes]]:
        paths = (run, *run.rglob("*"))
        return {path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in paths}

    before = state()
    assert len(before) > 5
    assert len(exported(run, tmp_path / "out")) == 10
    assert state() == before
