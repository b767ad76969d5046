"""A plan whose making was broken off: what is whole is kept, nothing else, and the bytes are those of one sitting."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pangu_rl.errors import DataError
from pretrain.packing import pieces, plan_file
from pretrain.packing.pack import pack_file
from tests.contracts.source_tree import ROOT
from tests.faults.doors import Door, Hung
from tests.unit.pretrain.packing.builders import ROWS as ONE
from tests.unit.pretrain.packing.builders import config, drawn_rows

SETTINGS = {"context": 1500, "ranks": 2, "global_batch": 4}
COMMAND = """
from pretrain.packing import pieces
pieces.PIECE_SAMPLES = 400
import pangu_rl.__main__
"""


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    """Row groups of 100, five pieces."""
    monkeypatch.setattr(pieces, "PIECE_SAMPLES", 400)
    return write(tmp_path / "metadata.parquet", 2000)


def write(path: Path, rows: int) -> Path:
    pq.write_table(pa.table(ONE | drawn_rows(rows)), path, row_group_size=100)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def broken_off(path: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ctrl-C when all pieces are there, before the manifest; returns the unfinished folder."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as during, pytest.raises(KeyboardInterrupt):
        during.setattr(plan_file, "_manifest", interrupted)
        pack_file(path, output, config(**SETTINGS), map)
    assert not output.exists()
    return output.with_name(f".{output.name}.unfinished")


def planned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the pieces that are planned from here on."""
    numbers, plan_of = [], pieces.plan_of

    def counted(metadata, rows, chosen, key):
        numbers.append(key[1] - 1)
        return plan_of(metadata, rows, chosen, key)

    monkeypatch.setattr(pieces, "plan_of", counted)
    return numbers


def test_whole_pieces_are_kept_and_one_that_was_changed_is_made_anew(path, tmp_path, monkeypatch, capsys):
    pack_file(path, tmp_path / "whole", config(**SETTINGS), map)
    left = broken_off(path, tmp_path / "plan", monkeypatch)
    content = bytearray((left / "plan/packs-00002.parquet").read_bytes())
    content[len(content) // 2] ^= 1
    (left / "plan/packs-00002.parquet").write_bytes(content)
    (left / "over-00003.arrow").unlink()
    (left / "piece-00004.seal").write_text('{"files"')
    (left / "plan/.packs-00004.parquet.1.partial").write_bytes(b"half")
    numbers = planned(monkeypatch)
    capsys.readouterr()
    pack_file(path, tmp_path / "plan", config(**SETTINGS), map)
    assert numbers == [2, 3, 4]
    assert "2 of 5 pieces are from a run that was interrupted" in capsys.readouterr().err
    assert contents(tmp_path / "plan") == contents(tmp_path / "whole")
    assert not left.exists()


@pytest.mark.parametrize(
    ("rows", "settings", "said"),
    [
        (2000, {"seed": 1}, "begun anew, not gone on with: seed was 0 and is 1"),
        (2000, {"shares": {"text": 1, "vl": 1}}, "begun anew, not gone on with: shares was {} and is {'text': 1.0"),
        (1900, {}, r"begun anew, not gone on with: the metadata had sha256 [0-9a-f]{12} and has [0-9a-f]{12}"),
    ],
)
def test_another_plan_is_begun_anew_and_says_by_what(path, tmp_path, monkeypatch, capsys, rows, settings, said):
    broken_off(path, tmp_path / "plan", monkeypatch)
    write(path, rows)
    capsys.readouterr()
    pack_file(path, tmp_path / "plan", config(**SETTINGS | settings), map)
    err = capsys.readouterr().err
    assert said in err or re.search(said, err)
    assert "from a run that was interrupted" not in err
    pack_file(path, tmp_path / "whole", config(**SETTINGS | settings), map)
    assert contents(tmp_path / "plan") == contents(tmp_path / "whole")


def test_other_code_begins_anew(path, tmp_path, monkeypatch, capsys):
    left = broken_off(path, tmp_path / "plan", monkeypatch)
    made_from = left / "made_from.json"
    made_from.write_text(re.sub(r'"code": "\w+"', '"code": "0"', made_from.read_text()))
    pack_file(path, tmp_path / "plan", config(**SETTINGS), map)
    assert "not gone on with: the code that plans was changed" in capsys.readouterr().err


def test_two_runs_do_not_make_one_plan_and_faulty_data_leave_nothing(path, tmp_path, monkeypatch):
    left = broken_off(path, tmp_path / "plan", monkeypatch)
    with (left / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="plan: another run plans it: wait for it, or name another --output"):
            pack_file(path, tmp_path / "plan", config(**SETTINGS), map)
    assert left.exists(), "it is the other run's"
    with pytest.raises(DataError, match="none of 2000 samples fits"):
        pack_file(path, tmp_path / "plan", config(context=1), map)
    assert [file.name for file in tmp_path.iterdir()] == ["metadata.parquet"]


def test_metadata_that_is_written_to_meanwhile_is_refused(path, tmp_path):
    def run(function, *arguments):
        os.utime(path, ns=(0, 0))
        return map(function, *arguments)

    with pytest.raises(DataError, match=r"metadata\.parquet: it was written to meanwhile, pack again when it is whole"):
        pack_file(path, tmp_path / "plan", config(**SETTINGS), run)


def test_sigkill_of_the_command_and_again(path, tmp_path):
    """A worker is held before its second piece, and the command killed: the worker ends too, and the first piece of
    each is kept."""
    pack_file(path, tmp_path / "whole", config(**SETTINGS), map)
    arguments = ["pack", "--metadata", str(path), "--context", "1500", "--ranks", "2", "--global-batch", "4"]
    command = [sys.executable, "-c", COMMAND, *arguments, "--output", str(tmp_path / "plan")]
    hung = Hung(Door(function="pretrain.packing.pieces:plan_piece", call=2), tmp_path / "door")
    first = subprocess.Popen(command, cwd=ROOT, env=hung.environment(), text=True)
    worker = hung.who(first, 300)
    assert worker.pid != first.pid
    first.kill()
    first.wait()
    worker.wait(60)
    assert not psutil.pid_exists(worker.pid)
    assert not (tmp_path / "plan").exists()
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert re.search(r"[1-4] of 5 pieces are from a run that was interrupted", again.stderr), again.stderr
    assert contents(tmp_path / "plan") == contents(tmp_path / "whole")
