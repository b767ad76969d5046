"""`--help` fits 80 columns and is quick, `--debug` stands anywhere, `--version` tells it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from pangu_rl import cli
from pangu_rl.cli.program import TITLES
from tests.contracts.source_tree import ROOT

COLUMNS = 80


@pytest.fixture(scope="module")
def shown() -> list[str]:
    return CliRunner(env={"COLUMNS": str(COLUMNS)}).invoke(cli.app, ["--help"]).output.splitlines()


def test_every_command_has_one_whole_line_under_a_title(shown):
    """A line that is continued or cut would begin with more blanks than a command, or end with dots."""
    begin = shown.index(f"{TITLES[0]}:")
    lines = [line for line in shown[begin:] if line.startswith(" ")]
    names = {line.split()[0] for line in lines}
    assert names >= {"init", "grpo", "dpo", "chat", "report", "score", "submit", "config"}
    assert all(len(line) <= COLUMNS and line[2] != " " and line.endswith(".") for line in lines), "\n".join(lines)
    assert [line.rstrip(":") for line in shown[begin:] if line and not line.startswith(" ")] == list(TITLES)


def test_the_command_line_imports_nothing_that_a_command_alone_needs():
    """What makes `--help` quick, counted where seconds would depend on the machine."""
    code = "import sys, pangu_rl.cli; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    slow = {"torch", "ray", "transformers", "pandas", "matplotlib", "duckdb", "pyarrow", "pangu_rl.config.stages"}
    assert not slow & set(done.stdout.split())


def test_the_version_is_that_of_the_distribution():
    assert CliRunner().invoke(cli.app, ["--version"]).output.startswith("pangu-rl 0.")


@pytest.mark.parametrize("where", [["--debug", "config", "check", "grpo"], ["config", "check", "grpo", "--debug"]])
def test_debug_shows_the_traceback_of_an_error(where, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pangu-rl", *where, "--config", "no/such.yaml"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    said = capsys.readouterr().err
    assert left.value.code == 2
    assert "Traceback" in said
    assert said.splitlines()[-1].startswith("error: no/such.yaml: no such configuration file")


def test_without_it_an_error_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pangu-rl", "config", "check", "grpo", "--config", "no/such.yaml"])
    with pytest.raises(SystemExit):
        cli.main()
    assert len(capsys.readouterr().err.splitlines()) == 1
