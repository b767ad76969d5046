"""The commands: a pipeline, a dry run of it, and what is said of wrong words."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from pangu_rl.cli import app
from pangu_rl.errors import ConfigError
from tests.unit.data_curation.pipeline.builders import lines_of, numbered, own, pipeline


@pytest.fixture
def config(tmp_path: Path) -> Path:
    source = numbered(tmp_path / "in.jsonl", 20)
    tree = pipeline(source, tmp_path / "out", [own("no_odd")]).model_dump(mode="json")
    file = tmp_path / "pipeline.yaml"
    file.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return file


def test_a_pipeline_is_shown_and_run(config: Path, tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["curate", "--config", str(config), "--dry-run", "3"])
    assert shown.exit_code == 0 and "dropped: odd: n is 1" in shown.output
    assert not (tmp_path / "out").exists()
    command = ["curate", "--config", str(config), f"output={tmp_path / 'other'}", "--json"]
    done = CliRunner().invoke(app, command)
    assert json.loads(done.stdout.splitlines()[-1])["rows"] == 10
    assert len(lines_of(tmp_path / "other/rows")) == 10


@pytest.mark.parametrize("words", [[], ["smollm2", "easy-vqa"], ["smollm2", "--dry-run", "3"]])
def test_wrong_words_are_refused(words: list[str]) -> None:
    refused = CliRunner().invoke(app, ["curate", *words])
    assert isinstance(refused.exception, ConfigError) and "name one target" in str(refused.exception)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"name": "valid_row"}, r"operators.1: no operator 'valid_row', .*: did you mean valid_rows\?"),
        ({"name": "text_length", "args": {"lest": 3}}, r"operators.1: operator text_length: .*did you mean least\?"),
        ({"name": "own.py:f"}, "operators.1: operator own.py:f: no such file "),
        ({"nme": "language", "args": {}}, r"unknown key operators.1.nme: did you mean name\?"),
        ("language", "operators.1: write the operator language as {name: language}"),
        ({"language": {"keep": ["en"]}}, "operators.1: write the operator language as {name: language, args: "),
    ],
)
def test_a_mistake_in_the_list_names_the_file_and_the_place(config: Path, entry: object, said: str) -> None:
    tree = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump(tree | {"operators": [{"name": "valid_rows"}, entry]}))
    refused = CliRunner().invoke(app, ["curate", "--config", str(config)])
    assert isinstance(refused.exception, ConfigError)
    assert re.match(f"{re.escape(str(config))}: .*{said}", str(refused.exception)), refused.exception


def test_a_broken_operator_is_exit_code_1() -> None:
    assert CliRunner().invoke(app, ["check-operator", own("no_operator")["name"]]).exit_code == 1
