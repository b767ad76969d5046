"""Mistakes of a first day: one line that says what is wrong, where, and the way out; nothing is written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pangu_rl import cli
from pangu_rl.cli.init import write_starter

ROWS = [{"prompt": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(6)]
TAB, REPEATED = "model:\n\tpath: x\n", "model: {path: x}\ntrainer: {steps: 1}\n\ntrainer: {steps: 2}\n"
CURATED = "input: [mine.jsonl]\noutput: out\noperators: []\nworkers: 2\n"


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for stage in ("grpo", "sft", "eval"):
        write_starter(stage, tmp_path, str(tiny_model))
    files = {
        "mine.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
        "columns.jsonl": '{"question": "2 + 3?", "solution": "5"}\n',
        "cut.jsonl": json.dumps(ROWS[0]) + '\n{"prompt": "x", "answer": \n',
        "without.jsonl": json.dumps(ROWS[0]) + '\n{"prompt": "x"}\n',
        "none.jsonl": "",
        "rows.csv": "prompt,answer\nx,1\n",
        "tab.yaml": TAB,
        "repeated.yaml": REPEATED,
        "empty.yaml": "",
        "list.yaml": "- a\n",
        "curated.yaml": CURATED,
        "operators.yaml": "input: [mine.jsonl]\noutput: out\noperators: []\n",
        "a_file": "x",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "latin.jsonl").write_bytes('{"prompt": "café", "answer": "1"}\n'.encode("latin-1"))
    (tmp_path / "a_folder").mkdir()
    (tmp_path / "a_run").mkdir()
    (tmp_path / "a_run" / "config.yaml").write_text("")
    grpo = (tmp_path / "grpo.yaml").read_text()
    (tmp_path / "reward_file.yaml").write_text(grpo.replace("my_reward.py:right_number", "my_reward.py"))
    (tmp_path / "reward_none.yaml").write_text(grpo.replace("my_reward.py:right_number", "nothing.py:f"))
    (tmp_path / "nothing.py").write_text("def f(prompt, completion):\n    pass\n")
    (tmp_path / "weights").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "weights" / name).symlink_to(tiny_model / name)
    return tmp_path


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and error of `pangu-rl` with these words."""
    monkeypatch.setattr(sys, "argv", ["pangu-rl", *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code or 0, *capsys.readouterr()


def check(stage: str, *words: str) -> list[str]:
    return ["config", "check", stage, "--config", f"{stage}.yaml", *words]


def dry(stage: str, *words: str) -> list[str]:
    return [stage, "--config", f"{stage}.yaml", "--dry-run", *words]


MISTAKES = {
    "no such command": (
        ["trian"],
        "pangu-rl: no such command 'trian'. Did you mean 'pretrain'?",
        "see `pangu-rl --help`",
    ),
    "nearly a stage": (
        ["config", "check", "sftt", "--config", "sft.yaml"],
        "no stage 'sftt': did you mean sft? There are grpo, sft, dpo",
    ),
    "nearly a shipped name": (
        ["sft", "--config", "quickstart/sft_txt"],
        "quickstart/sft_txt: no such configuration file: did you mean quickstart/sft_text?",
    ),
    "nearly a file": (["sft", "--config", "sft.yml"], "sft.yml: no such configuration file: did you mean sft.yaml?"),
    "no shipped name": (
        ["sft", "--config", "quickstart/mine"],
        "quickstart/mine: no such configuration file: in quickstart there are grpo_text, ",
    ),
    "no file": (
        ["sft", "--config", "no/where.yaml"],
        "`pangu-rl init STAGE` writes one",
        "quickstart/grpo_text: they are in ",
    ),
    "a setting as an option": (
        [*dry("sft"), "--learning_rate", "1"],
        "no such option: --learning_rate: settings have no dashes, write section.key=value",
    ),
    "a file without its option": (["sft", "sft.yaml"], "missing option '--config': write --config sft.yaml; see"),
    "a pipeline as a target": (["curate", "curated.yaml"], "named by an option, --config curated.yaml"),
    "a stage's for a curation": (
        ["curate", "--config", "sft.yaml"],
        "sft.yaml: is a configuration of sft, not of curate: `pangu-rl sft --config sft.yaml`",
    ),
    "a stage's for a pipeline": (["pipeline", "--config", "sft.yaml"], "is a configuration of sft, not of pipeline"),
    "a stage's for a plan": (["plan", "--config", "sft.yaml", "--profile", "local"], "of sft, not of grpo"),
    "a curation's for a stage": (["sft", "--config", "operators.yaml"], "is a configuration of curate, not of sft"),
    "a folder as a configuration": (
        ["sft", "--config", "a_folder"],
        "a_folder: is a folder; a configuration is a YAML",
    ),
    "a run as a configuration": (
        ["sft", "--config", "a_run"],
        "a_run: is a folder; that of a run is a_run/config.yaml",
    ),
    "a starter under a file": (
        ["init", "sft", "--output", "a_file/x"],
        "a_file/x: Not a directory: name another folder",
    ),
    "a reward under a file": (
        ["new-reward", "mine", "--output", "a_file/x"],
        "a_file/x: Not a directory: name another",
    ),
    "rows of no file": (["check-operator", "valid_rows", "--rows", "none"], "none: no such file or folder of rows"),
    "no rows for an operator": (
        ["check-operator", "valid_rows", "--rows", "none.jsonl"],
        "none.jsonl: no row in the input",
    ),
    "an override of nothing": (
        ["doctor", "trainer.steps=1"],
        "overrides are those of a configuration",
        "--config FILE",
    ),
    "no model to merge": (["merge", "nowhere", "weights", "--output", "mean"], "merge nowhere: no such folder"),
    "no configuration": (["sft"], "pangu-rl sft: missing option '--config'", "see `pangu-rl sft --help`"),
    "an unknown option": ([*dry("sft"), "--dryrun"], "no such option: --dryrun", "--dry-run"),
    "a bad number": (["view", "x", "--port", "99999"], "pangu-rl view: invalid value for '--port'", "65535"),
    "a tab": (
        ["sft", "--config", "tab.yaml"],
        "tab.yaml: not YAML: line 2, column 1: found character '\\t'",
        "indent with blanks",
    ),
    "a key twice": (
        ["sft", "--config", "repeated.yaml"],
        "repeated.yaml: not YAML: line 4, column 1: key trainer stands twice",
    ),
    "an empty configuration": (["sft", "--config", "empty.yaml"], "found an empty file", "`pangu-rl init STAGE`"),
    "a list": (["sft", "--config", "list.yaml"], "found a list", "`pangu-rl init STAGE`"),
    "another stage's": (
        ["sft", "--config", "grpo.yaml"],
        "grpo.yaml: is a configuration of grpo, not of sft: `pangu-rl grpo --config grpo.yaml`",
    ),
    "a place in a list": (
        check("grpo", "rewards.functions.0.name=graded"),
        "override 'rewards.functions.0.name': functions is a list: change its entry in the file",
        "'rewards.functions=[...]'",
    ),
    "text for a list": (check("grpo", "rewards.functions=graded"), "is 'graded': is to be a list: [value]"),
    "text for names": (check("eval", "data.sets=mine.jsonl"), "is to be names with values: {name: value}"),
    "text for a section": (
        ["curate", "--config", "curated.yaml"],
        "workers is 2: is to be a section, keys with values",
    ),
    "no value": (check("sft", "data.train="), "data.train is empty"),
    "a type of number": (dry("sft", "model.dtype=fp16"), "model.dtype is 'fp16'", "'bfloat16' or 'float32'"),
    "a reward without its function": (
        ["grpo", "--config", "reward_file.yaml", "--dry-run"],
        "rewards: my_reward.py is a file: name the function in it, my_reward.py:FUNCTION",
    ),
    "a model without a tokenizer": (
        dry("sft", "model.path=weights"),
        "model.path weights holds no usable tokenizer; copy the model's own files into it, tokenizer.json",
    ),
    "a word that is none": (
        ["inspect", "mine.jsonl", "--model", "m", "--stage", "ppo"],
        "'--stage': 'ppo' is not one of",
    ),
    "no such rows": (
        dry("sft", "data.train=nope.jsonl"),
        "nope.jsonl: no such file or folder of rows",
        "working directory",
    ),
    "other columns": (
        check("grpo", "data.train=columns.jsonl"),
        "its keys are question, solution",
        "if question and solution are meant, set data.columns.question=prompt data.columns.solution=answer",
    ),
    "half a line": (dry("grpo", "data.train=cut.jsonl"), "cut.jsonl, row 2: is not JSON: Expecting value at column 27"),
    "no gold": (
        check("grpo", "data.train=without.jsonl"),
        "row 2: key answer is missing (mend it, or set data.on_bad_row",
    ),
    "no rows": (dry("sft", "data.train=none.jsonl"), "none.jsonl: no usable row: there is none in it"),
    "a table": (
        dry("sft", "data.train=rows.csv"),
        "expected .jsonl, .json,",
        "found '.csv': write its rows as one of these",
    ),
    "an empty folder": (dry("sft", "data.train=a_folder"), "a_folder: holds no .jsonl, .parquet or .tar"),
    "another encoding": (dry("grpo", "data.train=latin.jsonl"), "is not UTF-8 at byte 15: save the file as UTF-8"),
    "a file for a run": (dry("sft", "run_dir=a_file"), "run directory a_file", "Not a directory", "trainer.run_dir"),
    "a run under a file": (dry("sft", "run_dir=a_file/run"), "run directory a_file/run", "Not a directory"),
    "talk with no model": (
        ["chat", "a_folder"],
        "chat a_folder: no config.json in it; give a Hugging Face model folder",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_the_way_out(folder, monkeypatch, capsys, mistake):
    words, *parts = MISTAKES[mistake]
    before = sorted(folder.rglob("*"))
    code, _, err = said(monkeypatch, capsys, *words)
    assert code == 2
    [line] = err.splitlines()
    assert line.startswith("error: ")
    assert not [part for part in parts if part not in line], line
    assert sorted(folder.rglob("*")) == before


def test_a_reward_that_returns_nothing_is_named(folder, monkeypatch, capsys):
    code, _, err = said(monkeypatch, capsys, "config", "check", "grpo", "--config", "reward_none.yaml")
    assert (code, err.count("\n")) == (1, 1)
    assert "reward function f on the gold of grpo_rows:1 returned NoneType 'None': return a Part or a number" in err


def test_a_report_that_cannot_be_written_is_told(folder, monkeypatch, capsys):
    code, _, err = said(monkeypatch, capsys, "report", "a_run", "--output", "a_file/x.html")
    assert (code, err.count("\n")) == (1, 1)
    assert "error: a_file/x.html: the report (" in err and "cannot be written" in err


def test_no_words_are_answered_by_the_help(monkeypatch, capsys):
    code, out, err = said(monkeypatch, capsys)
    assert code == 2
    assert "Usage: pangu-rl" in out + err and "error:" not in out + err


def test_success_is_exit_code_0(folder, monkeypatch, capsys):
    assert said(monkeypatch, capsys, *check("sft"))[0] == 0


def test_a_dry_run_warns_of_what_looks_like_success(folder, monkeypatch, capsys):
    """Of 6 held-out prompts all are trained on; this machine need not have the device."""
    words = dry("grpo", "data.train=mine.jsonl", "data.heldout=mine.jsonl")
    code, out, _ = said(monkeypatch, capsys, *words)
    assert code == 0
    assert "warning 6 of 6 held-out prompts are trained on too: what is measured on them says nothing of others" in out
    words = dry("sft", "learner.optimizer.warmup_steps=2", "learner.optimizer.lr=1")
    warnings = [line for line in said(monkeypatch, capsys, *words)[1].splitlines() if line.startswith("warning ")]
    assert "learner.optimizer.warmup_steps is 2 and trainer.steps is 2" in warnings[0]
    assert "learner.optimizer.lr is 1, and language models are trained at 1e-7 to 1e-3: lower it" in warnings[1]
    assert "warning" not in said(monkeypatch, capsys, *dry("grpo"))[1]
