"""What is to be known of the rows stands on the terminal once, also where ranks are lost and started again."""

from __future__ import annotations

import json
from contextlib import contextmanager, nullcontext
from functools import partial
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from pangu_rl.config.load import checked
from pangu_rl.config.stages import DpoConfig, SftConfig
from pangu_rl.errors import RankLost
from pangu_rl.loops.session import Run
from pangu_rl.loops.supervised import run_preference, run_sft

ASKED = [{"role": "user", "content": "Hi"}]
ANSWER = {"role": "assistant", "content": "Ho"}
STAGES = {
    "sft": (SftConfig, run_sft, run_sft.run_sft, {"messages": [*ASKED, ANSWER], "extra": 1}),
    "dpo": (
        DpoConfig,
        run_preference,
        run_preference.run_preference,
        {"prompt": "Hi", "chosen": "Ho", "rejected": "Hu", "extra": 1},
    ),
}


@pytest.mark.parametrize("stage", STAGES)
def test_notes_of_rows_are_told_once(tmp_path: Path, tiny_model: Path, monkeypatch, caplog, stage: str) -> None:
    schema, module, run, row = STAGES[stage]
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(row) + "\n" + json.dumps(row | {"id": "2"}) + "\n" + '{"bad": 1}\n')
    console = Console(file=StringIO(), width=200)
    told = SimpleNamespace(
        dir=tmp_path,
        view=SimpleNamespace(console=console),
        checkpoints=SimpleNamespace(newest_step=lambda: None),
        preempted=False,
    )
    told.say_each, told.say = partial(Run.say_each, told), partial(Run.say, told)
    lost = [RankLost("a rank died"), None]

    @contextmanager
    def open_run(*args, **kwargs):
        yield told

    def train_stage(*args):
        if (error := lost.pop(0)) is not None:
            raise error
        return {}

    for name, stand_in in (
        ("open_run", open_run),
        ("open_parts", lambda *args: nullcontext()),
        ("train_stage", train_stage),
    ):
        monkeypatch.setattr(module, name, stand_in)
    tree = {
        "model": {"path": str(tiny_model)},
        "data": {"train": str(rows), "on_bad_row": "skip"},
        "trainer": {"run_dir": str(tmp_path / "run"), "steps": 1},
    }
    with caplog.at_level("INFO"):
        run(checked(schema, tree, "test"))
    assert "restart 1 of 3" in console.file.getvalue()
    [note] = [line for line in console.file.getvalue().splitlines() if "columns that are not used: extra" in line]
    levels = [one.levelname for one in caplog.records if one.getMessage() == note]
    assert levels == ["INFO"]  # no warning, which the terminal's handler would print once more
    [left_out] = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert left_out.startswith("left out: ") and "row 3" in left_out
