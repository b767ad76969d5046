"""A name in the configuration -> a function, and one clear line when there is none."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from pangu_rl.config.sections.rewards import RewardFunctionConfig
from pangu_rl.errors import ConfigError
from rewards import registry
from rewards.plugins import loading
from rewards.recipe.accuracy import boxed_accuracy
from tests.unit.rewards.builders import completion, prompt


def test_built_in() -> None:
    assert registry.resolve(RewardFunctionConfig(name="boxed_accuracy")) is boxed_accuracy


def test_file_with_bound_arguments(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def short(prompt, completion, *, limit):\n    return float(len(completion.text) <= limit)\n")
    function = registry.resolve(RewardFunctionConfig(name=f"{file}:short", args={"limit": 3}))
    assert (function(prompt(), completion("abc")), function(prompt(), completion("abcd"))) == (1.0, 0.0)


def test_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        EntryPoint("installed", "rewards.recipe.accuracy:boxed_accuracy", registry.ENTRY_POINT_GROUP),
        EntryPoint("broken", "rewards.absent:x", registry.ENTRY_POINT_GROUP),
    ]
    monkeypatch.setattr(loading.importlib.metadata, "entry_points", lambda group: entries)
    assert registry.resolve(RewardFunctionConfig(name="installed")) is boxed_accuracy
    with pytest.raises(
        ConfigError, match=r"entry point broken \(rewards.absent:x\) does not load: ModuleNotFoundError"
    ):
        registry.resolve(RewardFunctionConfig(name="broken"))


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("boxed_acuracy", {}, "did you mean boxed_accuracy?"),
        ("zzz", {}, "there are benchmark, boxed_accuracy, .*or path/to/file.py:function"),
        ("boxed_format", {"limit": 3}, "cannot be called as .* unexpected keyword argument 'limit'"),
        ("{tmp}/absent.py:f", {}, "no such file .*absent.py"),
        ("{tmp}/mine.py:shirt", {}, "no function 'shirt' in the file: did you mean short?"),
        ("{tmp}/mine.py:LIMIT", {}, "is int, not a function"),
        ("{tmp}/mine.py:one", {}, "cannot be called as .* too many positional arguments"),
        ("{tmp}/raises.py:f", {}, "does not import: ZeroDivisionError"),
    ],
)
def test_refusals(tmp_path: Path, name: str, args: dict, message: str) -> None:
    (tmp_path / "mine.py").write_text("LIMIT = 3\ndef short(p, c): return 1.0\ndef one(p): return 1.0\n")
    (tmp_path / "raises.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match=message):
        registry.resolve(RewardFunctionConfig(name=name.format(tmp=tmp_path), args=args))
