"""The schemas -> **docs/settings.md**: every setting of every stage and file, from its docstring. `make reference`
writes it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from pangu_rl.config.benchmark import BenchmarkConfig
from pangu_rl.config.cluster_profile import ClusterProfile
from pangu_rl.config.curate import CurateConfig
from pangu_rl.config.keys import Key, keys_of
from pangu_rl.config.pipelines.node import SCHEMAS
from pangu_rl.config.pipelines.pipeline import PipelineConfig
from pangu_rl.config.sections.packing import PackingConfig
from pangu_rl.config.sections.scorers import ScorersConfig

DESCRIBED: dict[str, tuple[str, type[BaseModel]]] = {
    **{stage: (f"`pangu-rl {stage}`", schema) for stage, schema in {**SCHEMAS, "pipeline": PipelineConfig}.items()},
    "curate": ("`pangu-rl curate`", CurateConfig),
    "pack": ("`pangu-rl pack`", PackingConfig),
    "benchmark": ("A benchmark's definition, for `data.benchmarks`", BenchmarkConfig),
    "scorers": ("A file of scorers, for the reward `llm_score`", ScorersConfig),
    "profile": ("A cluster profile, for `--profile`", ClusterProfile),
}
"""Name -> title and schema, in the order of the page."""
HEAD = """# Every setting

This page is written from the program itself (`make reference`). A setting is a key of the configuration's file, or
`section.key=value` behind a command. `pangu-rl config show STAGE --config FILE` prints the same for one configuration,
with its own values. Settings of several stages stand at the first of them; of a section that is nearly the same, only
what differs stands again.
"""
Rows = dict[str, str]
"""Setting -> its line in a table."""


def reference() -> str:
    """The page. A section that stands in several stages alike is described once and linked to from the others."""
    told: dict[str, dict[str, Rows]] = {}
    parts = [HEAD]
    for stage, (title, schema) in DESCRIBED.items():
        parts.append(f"## {title}\n")
        for name, keys in _sections(schema).items():
            parts.append("\n".join(_section(stage, name, keys, told.setdefault(name, {}))))
    return "\n".join(parts)


def _sections(schema: type[BaseModel]) -> dict[str, list[Key]]:
    """Top-level key -> itself and all below it; what is no section stands under `top level`."""
    found: dict[str, list[Key]] = {}
    for key in keys_of(schema):
        top = key.name.partition(".")[0].removesuffix("[]")
        plain = key.name == top and key.section is None
        found.setdefault("top level" if plain else top, []).append(key)
    return found


def _section(stage: str, name: str, keys: list[Key], told: dict[str, Rows]) -> Iterator[str]:
    """Its heading and its table, or what differs from the nearest table that is `told` whole, if that is little."""
    yield f"### {stage}: {name}\n"
    says = _text(keys[0].says) if name != "top level" else ""
    rows = {key.name: _row(key) for key in (keys if name == "top level" else keys[1:] or keys)}
    if says:
        yield f"{says}\n"
    others = {where: _changed(rows, whole) for where, whole in told.items() if whole.keys() <= rows.keys()}
    where = min(others, key=lambda one: len(others[one]), default=None)
    if where is None or 2 * len(others[where]) > len(rows):
        told[stage] = rows
        yield from _table(rows)
        return
    if others[where]:
        yield from _table(others[where])
    yield f"{'All else as' if others[where] else 'As'} of [{where}](#{_anchor(f'{where}: {name}')}).\n"


def _changed(rows: Rows, whole: Rows) -> Rows:
    return {setting: row for setting, row in rows.items() if whole.get(setting) != row}


def _table(rows: Rows) -> Iterator[str]:
    yield "| setting | takes | default | |"
    yield "|---|---|---|---|"
    yield from rows.values()
    yield ""


def _row(key: Key) -> str:
    return f"| `{key.name}` | {_takes(key.field.annotation)} | {_default(key)} | {_text(key.says)} |"


def _default(key: Key) -> str:
    if key.default is PydanticUndefined:
        return "needed"
    if key.section is None:
        return f"`{json.dumps(key.default, ensure_ascii=False, default=str)}`"
    if isinstance(key.default, (list, tuple)) and key.default:
        entries = [entry.model_dump(mode="json", exclude_defaults=True) for entry in key.default]
        return f"`{json.dumps(entries, ensure_ascii=False)}`"
    return "null" if key.default is None else ""


def _takes(annotation: Any) -> str:
    """What a setting takes, in words: `whole number`, `a` | `b`, `list of text`, `text or null`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _takes(arguments[0])
    if origin is Literal:
        return " \\| ".join(f"`{str(choice).lower() if isinstance(choice, bool) else choice}`" for choice in arguments)
    if origin in (Union, UnionType):
        texts = [_takes(argument) for argument in arguments if argument is not type(None)]
        return " or ".join(dict.fromkeys(texts)) + (" or `null`" if type(None) in arguments else "")
    if origin in (tuple, list):
        return f"list of {_takes(arguments[0])}" if arguments else "list"
    if origin is dict:
        return f"mapping to {_takes(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return {bool: "`true` \\| `false`", int: "whole number", float: "number", str: "text"}.get(annotation, "any")


def _text(says: str) -> str:
    """As Markdown of a table's cell: in code `<` stands for itself."""
    return re.sub(r"(`[^`]*`)|<", lambda found: found[1] or "&lt;", says).replace("|", "\\|")


def _anchor(title: str) -> str:
    """As Markdown's table of contents makes it."""
    return title.lower().replace(":", "").replace(" ", "-")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
