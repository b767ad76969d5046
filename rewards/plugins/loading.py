"""Code of a user's own that a configuration names: `path/to/file.py:function` or an entry point -> **the function**.

For rewards and operators of curation alike. Nothing in a data row or a checkpoint can name code.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from pangu_rl.config.keys import nearest
from pangu_rl.errors import ConfigError


def is_file_function(name: str) -> bool:
    file, separator, _ = name.rpartition(":")
    return bool(separator) and file.endswith(".py")


def from_file(name: str, subject: str) -> Any:
    """What `path/to/file.py:function` names; `subject` begins each message.

    Raises:
        ConfigError: no such file or function, or a file that does not import.
    """
    file, _, function = name.rpartition(":")
    module = _import_file(Path(file).expanduser(), subject)
    if not hasattr(module, function):
        there = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise ConfigError(f"{subject}: no function {function!r} in the file{nearest(function, there)}")
    return getattr(module, function)


def from_entry_point(entry: importlib.metadata.EntryPoint, subject: str) -> Any:
    """
    Raises:
        ConfigError: it does not load.
    """
    try:
        return entry.load()
    except Exception as error:  # an installed plugin may fail to import in any way of its own
        raise ConfigError(
            f"{subject}: entry point {entry.name} ({entry.value}) does not load: {_line(error)}"
        ) from error


def entry_points(group: str) -> dict[str, importlib.metadata.EntryPoint]:
    """By name, of the installed packages."""
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=group)}


def _import_file(path: Path, subject: str) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"{subject}: no such file {path.absolute()}")
    whole = path.resolve()
    module_name = f"plugin_{path.stem}_{hashlib.sha256(str(whole).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{subject}: {path} is not a Python file")
    if (beside := str(whole.parent)) not in sys.path:
        sys.path.append(beside)  # last: what the file imports from there hides nothing
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # types in its annotations are looked up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's file may fail in any way; its own words go into the message
        raise ConfigError(f"{subject}: {path} does not import: {_line(error)}") from error
    return module


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
