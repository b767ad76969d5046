"""A name in the configuration -> a reward function: built in, an installed entry point, or `path/to/file.py:function`.

Only the configuration names code. Nothing in a data row or a checkpoint can.
"""

from __future__ import annotations

import difflib
import functools
import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from pangu_rl.config.sections.rewards import RewardFunctionConfig
from pangu_rl.errors import ConfigError
from rewards.metrics.benchmark import benchmark
from rewards.recipe.accuracy import boxed_accuracy
from rewards.recipe.counting import counting
from rewards.recipe.format import boxed_format
from rewards.recipe.graded import graded
from rewards.recipe.grounding import grounding
from rewards.recipe.multiple_choice import multiple_choice
from rewards.recipe.ocr import ocr_edit_distance
from rewards.recipe.overlong import soft_overlong
from rewards.recipe.temporal import ordering, temporal_iou
from rewards.scorers.judged_benchmark import judged_benchmark
from rewards.scorers.llm_score import llm_score

ENTRY_POINT_GROUP = "pangu_rl.rewards"

BUILT_IN: dict[str, Callable[..., Any]] = {
    "benchmark": benchmark,
    "boxed_accuracy": boxed_accuracy,
    "boxed_format": boxed_format,
    "counting": counting,
    "graded": graded,
    "grounding": grounding,
    "judged_benchmark": judged_benchmark,
    "llm_score": llm_score,
    "multiple_choice": multiple_choice,
    "ocr_edit_distance": ocr_edit_distance,
    "ordering": ordering,
    "soft_overlong": soft_overlong,
    "temporal_iou": temporal_iou,
}


def resolve(config: RewardFunctionConfig) -> Callable[..., Any]:
    """The function that `config` names, with its `args` bound.

    Raises:
        ConfigError: no such name, file or function, a file that does not import, or arguments that do not fit.
    """
    function = _find(config.name)
    if not callable(function):
        raise ConfigError(f"rewards: {config.name} is {type(function).__name__}, not a function")
    try:
        inspect.signature(function).bind(None, None, **config.args)
    except TypeError as error:
        raise ConfigError(
            f"rewards: {config.name} cannot be called as (prompt, completion) with args {config.args}: {error}"
        ) from None
    return functools.partial(function, **config.args) if config.args else function


def _find(name: str) -> Any:
    if name in BUILT_IN:
        return BUILT_IN[name]
    file, separator, function = name.rpartition(":")
    if separator and file.endswith(".py"):
        return _attribute(_import_file(Path(file).expanduser(), name), function, name)
    installed = {entry.name: entry for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)}
    if name in installed:
        return _load_entry_point(installed[name])
    known = [*BUILT_IN, *installed]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = (
        f"did you mean {near[0]}?"
        if near
        else f"there are {', '.join(dict.fromkeys(known))}, or path/to/file.py:function"
    )
    raise ConfigError(f"rewards: no reward function {name!r}: {hint}")


def _load_entry_point(entry: importlib.metadata.EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:  # an installed plugin may fail to import in any way of its own
        raise ConfigError(f"rewards: entry point {entry.name} ({entry.value}) does not load: {_line(error)}") from error


def _import_file(path: Path, name: str) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"rewards: {name}: no such file {path.absolute()}")
    spec = importlib.util.spec_from_file_location(f"reward_plugin_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"rewards: {name}: {path} is not a Python file")
    if (beside := str(path.parent.resolve())) not in sys.path:
        sys.path.append(beside)  # last: what the file imports from there hides nothing
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's file may fail in any way; its own words go into the message
        raise ConfigError(f"rewards: {path} does not import: {_line(error)}") from error
    return module


def _attribute(module: ModuleType, function: str, name: str) -> Any:
    if hasattr(module, function):
        return getattr(module, function)
    names = [key for key, value in vars(module).items() if inspect.isfunction(value)]
    near = difflib.get_close_matches(function, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(names) or 'no function'}"
    raise ConfigError(f"rewards: {name}: no function {function!r} in the file: {hint}")


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
