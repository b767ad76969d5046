"""`pangu-rl pack` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pretrain.packing.plan_file import PlanReader
from tests.contracts.source_tree import ROOT
from tests.unit.pretrain.packing.builders import drawn_rows, write_rows


def pack(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pangu_rl", "pack", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_plan_by_hand_through_the_command(tmp_path):
    """A picture of 224 x 224 costs 66 tokens. Packs: full 100, picture 34 + 66, both 33 + 66 with one 1, more 99, and
    rest 5 that is carried over; long does not fit."""
    path = write_rows(
        tmp_path / "m.parquet",
        id=["full", "picture", "one", "long", "both", "rest", "more"],
        text_tokens=[100, 34, 1, 101, 33, 5, 99],
        width=[0, 224, 0, 0, 224, 0, 0],
        height=[0, 224, 0, 0, 224, 0, 0],
    )
    done = pack("--metadata", path, "--context", 100, "--ranks", 2, "--output", tmp_path / "plan", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["packs_per_rank_max"] == found["packs_per_rank_min"] == 2
    assert found["packs_carried_over"] == 1
    assert found["fill"] == pytest.approx((100 + 100 + 100 + 99 + 5) / 500)
    assert found["visual_imbalance"] == 1.0
    assert found["seconds"] > 0
    assert "left out, longer than the context: 'long'" in done.stderr
    assert "left out, carried over: 'rest'" in done.stderr
    reader = PlanReader(tmp_path / "plan")
    assert found["steps"] == reader.steps == 2
    assert sorted(len(pack.ids) for step in (0, 1) for pack in reader.packs(step)) == [1, 1, 1, 2]


def test_settings_and_a_drawn_corpus(tmp_path):
    path = write_rows(tmp_path / "m.parquet", **drawn_rows(3000))
    arguments = ("--metadata", path, "--context", 2000, "--ranks", 4, "--global-batch", 8)
    done = pack(*arguments, "--output", tmp_path / "plan", "shares.text=1", "shares.vl=4", "seed=3")
    assert done.returncode == 0, done.stderr
    assert "fill 99." in done.stdout
    manifest = json.loads((tmp_path / "plan" / "manifest.json").read_text())
    assert manifest["settings"]["shares"] == {"text": 1.0, "vl": 4.0}
    assert manifest["settings"]["seed"] == 3
    assert manifest["visual_imbalance"] < 1.02


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ranks", 2, "--global-batch", 3), "pack: global_batch 3 cannot be dealt equally to ranks 2"),
        (("--ranks", 2, "sed=3"), "pack: unknown key sed: did you mean seed?"),
        (("--ranks", 1), "width 9, height 0: must both be 0 or neither"),
    ],
)
def test_bad_input_is_one_line(tmp_path, arguments, message):
    path = write_rows(tmp_path / "m.parquet", width=[9])
    done = pack("--metadata", path, "--context", 100, "--output", tmp_path / "plan", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "plan").exists()


def test_fewer_packs_than_ranks_is_said(tmp_path):
    path = write_rows(tmp_path / "m.parquet")
    done = pack("--metadata", path, "--context", 100, "--ranks", 8, "--output", tmp_path / "plan", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["packs_per_rank_max"] == 0
    assert "no step: 1 packs for 8 ranks" in done.stderr
