"""A name in the configuration -> an operator: built in, an installed entry point, or `path/to/file.py:function`.

Only the configuration names code. Built-in ones are imported when they are named, so that a pipeline needs the
libraries of its own operators alone.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_curation.pipeline.operator import Operator, bound, declared
from pangu_rl.config.curate import OperatorConfig
from pangu_rl.config.keys import nearest
from pangu_rl.errors import ConfigError, first_line

ENTRY_POINT_GROUP = "pangu_rl.operators"
HOME = Path(__file__).parents[1] / "operators"


def built_in() -> dict[str, str]:
    """Name -> module: each file of a room of operators is one, and its function has the file's name."""
    files = sorted(path for path in HOME.glob("*/*.py") if not path.name.startswith("_"))
    return {path.stem: f"data_curation.operators.{path.parent.name}.{path.stem}" for path in files}


def resolve_all(configs: Sequence[OperatorConfig]) -> list[Operator]:
    """The operators of a pipeline, under names of their own; raises as `resolve`."""
    seen: Counter[str] = Counter()
    operators = []
    for config in configs:
        short = config.name.rpartition(":")[2]
        seen[short] += 1
        operators.append(resolve(config, short if seen[short] == 1 else f"{short}~{seen[short]}"))
    return operators


def resolve(config: OperatorConfig, name: str) -> Operator:
    """The operator that `config` names, called `name` in the pipeline.

    Raises:
        ConfigError: no such name, file or function, one that does not import or is no operator, wrong settings.
    """
    function = _find(config.name)
    if (declaration := declared(function)) is None:
        raise ConfigError(f"operator {config.name}: is not declared one: put @row_operator or @set_operator above it")
    return bound(name, function, declaration, config.args)


def named_function(name: str) -> Any:
    """`path/to/file.py:function`; raises `ConfigError`."""
    file, separator, function = name.rpartition(":")
    if not (separator and file.endswith(".py")):
        raise ConfigError(f"{name}: write it as path/to/file.py:function")
    return _attribute(_import_file(Path(file).expanduser(), name), function, name)


def _find(name: str) -> Any:
    modules = built_in()
    if name in modules:
        return getattr(_imported(modules[name], name), name)
    if ".py:" in name:
        return named_function(name)
    installed = {entry.name: entry for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)}
    if name in installed:
        try:
            return installed[name].load()
        except Exception as error:  # an installed plugin may fail to import in any way of its own
            raise ConfigError(f"operator {name}: entry point {installed[name].value}: {first_line(error)}") from error
    raise ConfigError(f"no operator {name!r}{nearest(name, [*modules, *installed])}, or path/to/file.py:function")


def _imported(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"operator {name} needs the package {error.name}: install it") from None


def _import_file(path: Path, name: str) -> Any:
    if not path.is_file():
        raise ConfigError(f"operator {name}: no such file {path.absolute()}")
    module_name = f"curation_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    if (beside := str(path.parent.resolve())) not in sys.path:
        sys.path.append(beside)  # last: what the file imports from there hides nothing
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # types in its annotations are looked up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's file may fail in any way; its own words go into the message
        raise ConfigError(
            f"operator {name}: {path} does not import: {type(error).__name__}: {first_line(error)}"
        ) from error
    return module


def _attribute(module: Any, function: str, name: str) -> Any:
    if not hasattr(module, function):
        there = [key for key, value in vars(module).items() if declared(value) is not None]
        raise ConfigError(f"operator {name}: no function {function!r} in the file{nearest(function, there)}")
    return getattr(module, function)
