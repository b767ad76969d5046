"""A name in the configuration -> a reward function: built in, an installed entry point, or `path/to/file.py:function`.

Only the configuration names code. Nothing in a data row or a checkpoint can.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from pangu_rl.config.keys import nearest
from pangu_rl.config.sections.rewards import RewardFunctionConfig
from pangu_rl.errors import ConfigError
from rewards.metrics.benchmark import benchmark
from rewards.plugins.loading import entry_points, from_entry_point, from_file, is_file_function
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
    if is_file_function(name):
        return from_file(name, f"rewards: {name}")
    installed = entry_points(ENTRY_POINT_GROUP)
    if name in installed:
        return from_entry_point(installed[name], "rewards")
    if name.endswith(".py"):
        raise ConfigError(f"rewards: {name} is a file: name the function in it, {name}:FUNCTION")
    known = dict.fromkeys([*BUILT_IN, *installed])
    raise ConfigError(f"rewards: no reward function {name!r}{nearest(name, known)}, or path/to/file.py:function")
