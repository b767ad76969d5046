"""A run directory belongs to the settings that it was begun with: what is resumed is what was started."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pangu_rl.errors import ConfigError
from pangu_rl.whole_file import whole_file

SETTINGS = "settings.json"
ABSENT = "absent"
DIGEST = re.compile("[0-9a-f]{64}")
"""SHA-256 of weights, rows or files: its first signs tell two apart."""


def claim(directory: Path, settings: Mapping[str, Any]) -> None:
    """Write `settings` (JSON values) into `directory`, or compare them with what is there.

    Raises:
        ConfigError: the directory was begun with others; names the first that differs, with both values.
    """
    path = directory / SETTINGS
    if not path.is_file():
        begin(directory, settings)
        return
    difference = first_difference(json.loads(path.read_text(encoding="utf-8")), settings)
    if difference is not None:
        key, was, is_now = difference
        raise ConfigError(
            f"{directory} was begun with {key} {was}, now it is {is_now}: set it back, or another run_dir"
        )


def begin(directory: Path, settings: Mapping[str, Any]) -> None:
    """Write `settings` into a `directory` that holds nothing yet that was made with others."""
    write_whole(directory / SETTINGS, json.dumps(settings, indent=1) + "\n")


def first_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """The dotted key of the first setting that differs, and both values as people read them; None of equal ones.

    One that is not there is null: a later version's new setting, unset, changes nothing in a run that was begun before.
    """
    was, is_now = flat(before), flat(now)
    for key in is_now | was:
        values = was.get(key, ABSENT), is_now.get(key, ABSENT)
        if values[0] != values[1] and not all(value in (None, ABSENT) for value in values):
            return key, brief(values[0]), brief(values[1])
    return None


def write_whole(path: Path, text: str) -> None:
    """A small file that has its name only when it is on disk."""
    with whole_file(path, flushed=True) as partial:
        partial.write_text(text, encoding="utf-8")


def flat(tree: Any, free: Sequence[str] = (), prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones; keys in `free` are left out at any depth."""
    if not isinstance(tree, Mapping) or not tree:
        return {prefix: list(tree) if isinstance(tree, tuple) else tree}
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if key not in free:
            found |= flat(value, free, f"{prefix}.{key}" if prefix else key)
    return found


def brief(value: Any) -> str:
    if isinstance(value, str) and DIGEST.fullmatch(value):
        return value[:12]
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
