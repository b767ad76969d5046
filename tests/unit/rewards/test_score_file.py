"""`pangu-rl score`: no row is lost, whatever is in the file; the output is there when it is complete or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pangu_rl.errors import DataError
from rewards.score_file import score_file
from rewards.score_rows import BadRow, encode_row, parse_row

NOT_ROWS = {
    b"": "is empty",
    b"{": "is not JSON",
    b"[1, 2]": "is a JSON list, not an object",
    b"\xff\xfe{}": "is not UTF-8 at byte 0",
    b'{"prediction": NaN}': "NaN is not JSON",
    b'{"x": 1e999}': "not JSON compliant",
    b'{"x": ' + b"1" * 5000 + b"}": "is not JSON that can be read",
    b"[" * 100_000: "is not JSON that can be read",
}

BAD_ROWS: list[tuple[dict[str, Any], str]] = [
    ({"gold": "7"}, "key prediction is missing"),
    ({"prediction": None, "gold": "7"}, "key prediction is missing"),
    ({"prediction": 7, "gold": "7"}, "key prediction is int '7', not text"),
    ({"prediction": r"\boxed{7}"}, "key gold is missing"),
    ({"prediction": r"\boxed{7}", "gold": None}, "key gold is null"),
    ({"prediction": r"\boxed{7}", "gold": "7", "answer_type": 3}, "key answer_type is int"),
    ({"prediction": r"\boxed{7}", "gold": "7", "answer_type": "vibes"}, "vibes"),
    ({"prediction": r"\boxed{}", "gold": ""}, "gold"),
    ({"prediction": "no box at all", "gold": ""}, "gold"),
    ({"prediction": r"\boxed{B}", "gold": "E", "answer_type": "choice", "choices": ["1", "2"]}, "E"),
    ({"prediction": r"\boxed{B}", "gold": "B", "answer_type": "choice", "choices": "12"}, "choices is '12'"),
    ({"prediction": r"\boxed{1}", "gold": "[nan,0,9,9]", "answer_type": "bbox"}, "nan"),
    ({"prediction": r"\boxed{1}", "gold": "[0,0,9,9]", "answer_type": "bbox", "metric": "dice"}, "dice"),
    ({"prediction": r"\boxed{1}", "gold": "[0,0,9,9]", "answer_type": "bbox", "image_size": [9]}, "image_size is [9]"),
]

GOOD_ROWS: list[tuple[dict[str, Any], str]] = [
    ({"prediction": r"so \boxed{0.5}", "gold": "1/2", "id": "a", "nested": {"x": [1, 2.5, None]}}, "correct"),
    ({"prediction": r"so \boxed{0.6}", "gold": "1/2"}, "incorrect"),
    ({"prediction": "so 0.5", "gold": "1/2"}, "no_box"),
    ({"prediction": r"\boxed{x+1}", "gold": "1+x", "answer_type": "math"}, "correct"),
    ({"prediction": r"\boxed{7}", "gold": 7}, "correct"),
    ({"prediction": r"\boxed{[10,10,50,51]}", "gold": [10, 10, 50, 50], "answer_type": "bbox"}, "correct"),
    ({"prediction": r"\boxed{null}", "gold": None, "answer_type": "bbox"}, "correct"),
    ({"prediction": r"\boxed{15}", "gold": "B", "answer_type": "choice", "choices": ["12", "15"]}, "correct"),
    ({"prediction": "\x00 \\boxed{7}\ud800", "gold": "7", "note": "\udfff"}, "correct"),
]


def write_rows(path: Path, lines: list[bytes]) -> Path:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_rows_keep_order_and_fields_and_get_a_verdict(tmp_path: Path) -> None:
    rows = [row for row, _ in GOOD_ROWS]
    source = write_rows(tmp_path / "in.jsonl", [json.dumps(row).encode() for row in rows])
    summary = score_file(source, tmp_path / "out.jsonl", workers=1)
    found = read_rows(tmp_path / "out.jsonl")
    assert [row["outcome"] for row in found] == [outcome for _, outcome in GOOD_ROWS]
    for row, scored in zip(rows, found, strict=True):
        assert {key: scored[key] for key in row} == row
        assert scored.keys() - row.keys() == {"outcome", "reward", "seconds"}
        assert scored["reward"] == float(scored["outcome"] == "correct")
        assert 0.0 <= scored["seconds"] < 2.5
    assert summary.as_dict()["outcomes"] == {"correct": 7, "incorrect": 1, "no_box": 1}
    assert summary.mean_reward == pytest.approx(7 / 9)


def test_bad_rows_are_reported_in_their_place(tmp_path: Path) -> None:
    lines = [*NOT_ROWS, *(json.dumps(row).encode() for row, _ in BAD_ROWS)]
    good = json.dumps(GOOD_ROWS[0][0]).encode()
    source = write_rows(tmp_path / "in.jsonl", [line for bad in lines for line in (bad, good)])
    summary = score_file(source, tmp_path / "out.jsonl", workers=1)
    found = read_rows(tmp_path / "out.jsonl")
    assert len(found) == 2 * len(lines)
    assert (summary.bad_rows, summary.verdicts, summary.mean_reward) == (len(lines), len(lines), 1.0)
    assert all(row["outcome"] == "correct" for row in found[1::2])
    for number, (line, reason, row) in enumerate(
        zip(lines, [*NOT_ROWS.values(), *(reason for _, reason in BAD_ROWS)], found[::2], strict=True)
    ):
        assert (row["outcome"], row["reward"]) == ("error", None)
        assert reason.casefold() in row["error"].casefold(), line[:80]
        if line in NOT_ROWS:
            assert row["row"] == 2 * number + 1
            assert row["raw"].encode("utf-8", "surrogateescape") == line
        else:
            assert row.items() >= json.loads(line).items()


@pytest.mark.parametrize(("line", "reason"), NOT_ROWS.items())
def test_what_is_no_row(line: bytes, reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        parse_row(line)


def test_half_a_surrogate_pair_comes_back_as_it_was() -> None:
    line = rb'{"text": "\ud800 \u0000 \ud83d\ude00"}'
    assert parse_row(encode_row(parse_row(line))) == parse_row(line)
    encode_row(parse_row(line)).decode("utf-8")


def test_fail_names_file_and_row_and_leaves_nothing(tmp_path: Path) -> None:
    good = json.dumps(GOOD_ROWS[0][0]).encode()
    source = write_rows(tmp_path / "in.jsonl", [good, good, b"{", good])
    with pytest.raises(DataError, match=r"in\.jsonl, row 3: is not JSON"):
        score_file(source, tmp_path / "out.jsonl", on_bad_row="fail", workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_what_would_destroy_something_is_refused(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.jsonl", [b"{}"])
    os.link(source, tmp_path / "other_name.jsonl")
    (tmp_path / "folder").mkdir()
    for target, reason in {
        "in.jsonl": "is the input too",
        "other_name.jsonl": "is the input too",
        "folder": "is no regular file",
        "absent/out.jsonl": "does not exist",
    }.items():
        with pytest.raises(DataError, match=reason):
            score_file(source, tmp_path / target)
    with pytest.raises(DataError, match="no such file"):
        score_file(tmp_path / "absent.jsonl", tmp_path / "out.jsonl")
    with pytest.raises(DataError, match="is a directory"):
        score_file(tmp_path, tmp_path / "out.jsonl")
    assert source.read_bytes() == b"{}\n"


def test_an_earlier_output_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    target.write_text("before")
    source = write_rows(tmp_path / "in.jsonl", [b"{"])
    with pytest.raises(DataError):
        score_file(source, target, on_bad_row="fail", workers=1)
    assert target.read_text() == "before"
    score_file(source, target, workers=1)
    assert len(read_rows(target)) == 1


def test_what_a_killed_run_left_behind_is_in_nobodys_way_and_stays(tmp_path: Path) -> None:
    """Also if it had our process id, as it happens in containers."""
    left = [tmp_path / f".out.jsonl.{name}.partial" for name in (os.getpid(), "0" * 16)]
    for file in left:
        file.write_text("another's")
    source = write_rows(tmp_path / "in.jsonl", [b"{"])
    with pytest.raises(DataError, match="row 1"):
        score_file(source, tmp_path / "out.jsonl", on_bad_row="fail", workers=1)
    score_file(source, tmp_path / "out.jsonl", workers=1)
    assert [file.read_text() for file in left] == ["another's"] * 2
    assert len(list(tmp_path.iterdir())) == 4
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "out.jsonl").stat().st_mode & 0o777 == 0o666 & ~umask


def test_empty_file(tmp_path: Path) -> None:
    summary = score_file(write_rows(tmp_path / "in.jsonl", []), tmp_path / "out.jsonl", workers=1)
    assert (summary.rows, summary.mean_reward, (tmp_path / "out.jsonl").read_bytes()) == (0, None, b"")


def pangu_rl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pangu_rl", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_command_line(tmp_path: Path) -> None:
    rows = [json.dumps(row).encode() for row, _ in GOOD_ROWS[:3]]
    source, target = write_rows(tmp_path / "in.jsonl", [*rows, b"{"]), tmp_path / "out.jsonl"
    done = pangu_rl("score", "--input", source, "--output", target, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["outcomes"] == {"correct": 1, "incorrect": 1, "no_box": 1, "error": 1}
    assert len(read_rows(target)) == summary["rows"] == 4
    failed = pangu_rl("score", "--input", source, "--output", target, "--on-bad-row", "fail")
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: ")
    assert "row 4: is not JSON" in failed.stderr


MEASURE = """
import sys
from pathlib import Path
from rewards.score_file import score_file
score_file(Path(sys.argv[1]), Path(sys.argv[2]), workers=1)
print(next(line.split()[1] for line in Path("/proc/self/status").open() if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """20 MB and 70 MB of rows of 100 kB: both are beyond the window, so the 50 MB more may not show."""
    row = json.dumps({"prediction": "x" * 100_000 + r"\boxed{7}", "gold": "7"}).encode()
    peaks = []
    for count in (200, 700):
        source = write_rows(tmp_path / f"{count}.jsonl", [row] * count)
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, source, tmp_path / "out.jsonl"], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] - peaks[0] < 20, peaks


def test_standard_input_and_output_are_files_too(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pangu_rl", "score", "--input", "-", "--output", "-"]
    row = b'{"prediction": "\\\\boxed{3}", "gold": "3"}\n'
    done = subprocess.run(command, input=row * 2, capture_output=True, check=True)
    assert [json.loads(line)["outcome"] for line in done.stdout.splitlines()] == ["correct", "correct"]
    assert done.stderr.startswith(b"-: 2 rows")
