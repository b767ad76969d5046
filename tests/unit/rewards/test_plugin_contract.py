"""`check-plugin` finds each way to break the contract, and passes what keeps it; `new-reward` writes what passes."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pangu_rl.cli import app
from pangu_rl.errors import ConfigError
from pangu_rl.records import Prompt
from rewards.plugins.contract import check_plugin, plugin_names
from rewards.plugins.new_package import new_package
from tests.contracts.source_tree import ROOT

BAD = """
import os, random, sys, time
from pathlib import Path
from pangu_rl.records import Outcome, Part

def good(prompt, completion, *, weight=1.0): return weight
async def later(prompt, completion): return Part(value=0.5, outcome=Outcome.INCORRECT)
def silent(prompt, completion): raise TimeoutError("the service is down")
def needs(prompt, completion, limit): return 1.0
def nothing(prompt, completion): return None
def nan(prompt, completion): return float("nan")
def stumbles(prompt, completion): return float(completion.text.index("box") > 0)
def empty(prompt, completion): return 1.0 / len(completion.text)
def hostile(prompt, completion): return float(len(completion.text.encode()) > 3)
def slow(prompt, completion):
    while len(completion.text) > 100_000: pass
    return 1.0
def dies(prompt, completion): os._exit(3) if len(completion.text) > 100_000 else None; return 1.0
def draws(prompt, completion): return random.random()
def process(prompt, completion): return float(os.getpid() % 2 + os.getpid() / 1e7)
def changes(prompt, completion): prompt.extra["seen"] = True; return 1.0
def locks(prompt, completion):
    lock = Path(__file__).with_suffix(".lock")
    if lock.exists(): raise RuntimeError("locked")
    lock.touch()
    if len(completion.text) > 100_000: time.sleep(0.6)
    lock.unlink()
    return 1.0
"""


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("plugin") / "bad.py"
    file.write_text(BAD)
    return file


def statuses(name: str, **more) -> dict[str, str]:
    return {finding.check: finding.status for finding in check_plugin(name, **more)}


@pytest.mark.parametrize("function", ["good", "later"])
def test_what_keeps_the_contract_passes(bad: Path, function: str) -> None:
    found = statuses(f"{bad}:{function}")
    assert set(found.values()) == {"ok"}
    assert list(found) == [
        *("importable", "signature", "correct", "incorrect", "empty", "hostile", "very long"),
        *("deterministic", "deadline", "input"),
    ]


def test_arguments_are_given_and_no_verdict_is_a_warning(bad: Path) -> None:
    by_check = {finding.check: finding for finding in check_plugin(f"{bad}:good", {"weight": 0.25})}
    assert by_check["correct"].detail.endswith("0.25 incorrect")
    assert by_check["signature"].detail == "(prompt, completion, weight=0.25)"
    silent = {finding.check: finding for finding in check_plugin(f"{bad}:silent")}
    assert silent["correct"].status == "warn" and "the service is down" in silent["correct"].detail


@pytest.mark.parametrize(
    ("function", "check", "says"),
    [
        ("absent", "importable", "no function 'absent'"),
        ("needs", "signature", "missing a required argument: 'limit'"),
        ("nothing", "correct", "returned NoneType 'None': return a Part or a number"),
        ("nan", "correct", "must be finite"),
        ("stumbles", "empty", "raised ValueError: substring not found"),
        ("empty", "empty", "raised ZeroDivisionError"),
        ("hostile", "hostile", "raised UnicodeEncodeError"),
        ("slow", "very long", "not done within 1 s"),
        ("dies", "very long", "ended with exit code 3"),
        ("draws", "deterministic", "in the same process"),
        ("process", "deterministic", "in a fresh process"),
        ("locks", "deadline", "raised RuntimeError: locked after a call was killed at its deadline"),
        ("changes", "input", "changes the prompt"),
    ],
)
def test_each_way_to_break_it_is_found(bad: Path, function: str, check: str, says: str) -> None:
    found = {f.check: f for f in check_plugin(f"{bad}:{function}", deadline_s=1.0)}
    assert found[check].status == "fail", found
    assert says in found[check].detail
    assert found[check].mend


def test_prompts_of_its_own_kind(tmp_path: Path) -> None:
    file = tmp_path / "area.py"
    file.write_text("def area(prompt, completion): return float(prompt.extra['area'] > 3)\n")
    assert statuses(f"{file}:area")["correct"] == "fail"
    row = Prompt(uid="x", messages=({"role": "user", "content": "?"},), answer="1", extra={"area": 4})
    assert set(statuses(f"{file}:area", prompts=[row]).values()) == {"ok"}


def test_the_command(bad: Path) -> None:
    run = CliRunner().invoke(app, ["check-plugin", f"{bad}:nan", "--json"])
    assert run.exit_code == 1
    [report] = json.loads(run.stdout).values()
    assert not report["passed"] and report["findings"][2]["check"] == "correct"
    good = CliRunner().invoke(app, ["check-plugin", f"{bad}:good", "weight=0.5"])
    assert good.exit_code == 0 and "0.5 incorrect" in good.stdout


def test_the_shipped_examples_keep_the_contract() -> None:
    [name] = plugin_names(str(ROOT / "examples" / "reward_plugin"))
    assert name.endswith("repetition_reward/__init__.py:no_repetition")
    assert set(statuses(name).values()) == {"ok"}
    one_file = f"{ROOT}/examples/rewards/soft_length.py:soft_length"
    assert set(statuses(one_file, args={"limit": 64, "buffer": 16}).values()) == {"ok"}


def test_a_folder_that_declares_no_reward(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no pyproject\.toml in it"):
        plugin_names(str(tmp_path))
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    with pytest.raises(ConfigError, match="declares no reward"):
        plugin_names(str(tmp_path))
    (tmp_path / "pyproject.toml").write_text("[project.entry-points.'pangu_rl.rewards']\nx = 'y:z'\n")
    with pytest.raises(ConfigError, match="no module y in"):
        plugin_names(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Short-Answer", "small letters"),
        ("class", "small letters"),
        ("../x", "small letters"),
        ("boxed_accuracy", "is a built-in reward"),
        ("json", "a module that is there already"),
    ],
)
def test_names_that_cannot_be(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        new_package(name, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        new_package("short_answer", tmp_path)


def test_a_new_package_keeps_the_contract(tmp_path: Path) -> None:
    folder = tmp_path / "package"
    written = CliRunner().invoke(app, ["new-reward", "short_answer", "--output", str(folder)])
    assert written.exit_code == 0, written.output
    assert set(statuses(plugin_names(str(folder))[0]).values()) == {"ok"}


def test_the_tests_of_a_new_package_know_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its test of values, run here: what it makes is a completion as it is today."""
    folder = tmp_path / "package"
    new_package("short_answer", folder)
    monkeypatch.syspath_prepend(folder / "src")
    made = runpy.run_path(str(folder / "tests" / "test_short_answer.py"))
    for text, value in (("", 1.0), ("one two", 1.0), ("one two three four", 0.5)):
        made["test_values"](text, value)


@pytest.mark.slow
def test_a_new_package_installs_and_passes_its_own_test(tmp_path: Path) -> None:
    folder, site = tmp_path / "package", tmp_path / "site"
    new_package("short_answer", folder)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    run([*pip, "--target", str(site), str(folder)])
    environment = {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    tested = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)], **environment)
    assert "4 passed" in tested.stdout
    checked = run(
        [sys.executable, "-m", "pangu_rl", "check-plugin", "short_answer", "limit=1", "--json"], **environment
    )
    assert json.loads(checked.stdout)["short_answer"]["passed"]


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, env={**os.environ, **environment}, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done
