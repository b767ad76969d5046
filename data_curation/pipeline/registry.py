"""A name in the configuration -> an operator: built in, an installed entry point, or `path/to/file.py:function`.

Only the configuration names code. Built-in ones are imported when they are named, so that a pipeline needs the
libraries of its own operators alone.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_curation.pipeline.operator import Operator, bound, declared
from pangu_rl.config.curate import OperatorConfig
from pangu_rl.config.keys import nearest
from pangu_rl.errors import ConfigError
from rewards.plugins.loading import entry_points, from_entry_point, from_file, is_file_function

ENTRY_POINT_GROUP = "pangu_rl.operators"
HOME = Path(__file__).parents[1] / "operators"


def built_in() -> dict[str, str]:
    """Name -> module: each file of a room of operators is one, and its function has the file's name."""
    files = sorted(path for path in HOME.glob("*/*.py") if not path.name.startswith("_"))
    return {path.stem: f"data_curation.operators.{path.parent.name}.{path.stem}" for path in files}


def resolve_all(configs: Sequence[OperatorConfig]) -> list[Operator]:
    """The operators of a pipeline, under names of their own; raises as `resolve`, with the place in the list."""
    seen: Counter[str] = Counter()
    operators = []
    for place, config in enumerate(configs):
        short = config.name.rpartition(":")[2]
        seen[short] += 1
        try:
            operators.append(resolve(config, short if seen[short] == 1 else f"{short}~{seen[short]}"))
        except ConfigError as error:
            raise ConfigError(f"operators.{place}: {error}") from error
    return operators


def resolve(config: OperatorConfig, name: str) -> Operator:
    """The operator that `config` names, called `name` in the pipeline.

    Raises:
        ConfigError: no such name, file or function, one that does not import or is no operator, wrong settings.
    """
    function = _find(config.name)
    if (declaration := declared(function)) is None:
        raise ConfigError(f"operator {config.name}: is not declared one: put @row_operator or @set_operator above it")
    return bound(name, function, declaration, config)


def named_function(name: str) -> Any:
    """`path/to/file.py:function`; raises `ConfigError`."""
    if not is_file_function(name):
        raise ConfigError(f"{name}: write it as path/to/file.py:function")
    return from_file(name, f"operator {name}")


def _find(name: str) -> Any:
    modules = built_in()
    if name in modules:
        return getattr(_imported(modules[name], name), name)
    if is_file_function(name):
        return named_function(name)
    installed = entry_points(ENTRY_POINT_GROUP)
    if name in installed:
        return from_entry_point(installed[name], "operators")
    way_out = nearest(name, [*modules, *installed])
    raise ConfigError(f"no operator {name!r}, built in or installed, and no path/to/file.py:function{way_out}")


def _imported(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"operator {name} needs the package {error.name}: install it") from None
