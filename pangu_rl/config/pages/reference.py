"""The schemas -> **docs/settings.md**: every setting of every stage, from its docstring. `make reference` writes it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from pangu_rl.config.keys import Key, keys_of
from pangu_rl.config.pipelines.node import SCHEMAS
from pangu_rl.config.pipelines.pipeline import PipelineConfig
from pangu_rl.config.sections.scorers import ScorersConfig

TITLES = {
    **{stage: f"`pangu-rl {stage}`" for stage in (*SCHEMAS, "pipeline")},
    "scorers": "A file of scorers, for the reward `llm_score`",
}
HEAD = """# Every setting

This page is written from the program itself (`make reference`). A setting is a key of the configuration's file, or
`section.key=value` behind a command. `pangu-rl config show STAGE --config FILE` prints the same for one configuration,
with its own values. Settings of several stages stand at the first of them.
"""


def reference() -> str:
    """The page. A section that stands in several stages alike is described once and linked to from the others."""
    schemas: dict[str, type[BaseModel]] = {**SCHEMAS, "pipeline": PipelineConfig, "scorers": ScorersConfig}
    told: dict[tuple[str, type[BaseModel]], str] = {}
    parts = [HEAD]
    for stage, schema in schemas.items():
        parts.append(f"## {TITLES[stage]}\n")
        for name, keys in _sections(schema).items():
            section = keys[0].section
            if section is not None and (where := told.get((name, section))):
                parts.append(f"### {stage}: {name}\n\nAs of [{where}](#{_anchor(f'{where}: {name}')}).\n")
                continue
            if section is not None:
                told[name, section] = stage
            parts.append("\n".join(_table(stage, name, keys)))
    return "\n".join(parts)


def _sections(schema: type[BaseModel]) -> dict[str, list[Key]]:
    """Top-level key -> itself and all below it; what is no section stands under `top level`."""
    found: dict[str, list[Key]] = {}
    for key in keys_of(schema):
        top = key.name.partition(".")[0].removesuffix("[]")
        plain = key.name == top and key.section is None
        found.setdefault("top level" if plain else top, []).append(key)
    return found


def _table(stage: str, name: str, keys: list[Key]) -> Iterator[str]:
    yield f"### {stage}: {name}\n"
    if name != "top level" and keys[0].says:
        yield f"{_text(keys[0].says)}\n"
    yield "| setting | takes | default | |"
    yield "|---|---|---|---|"
    for key in keys if name == "top level" else keys[1:] or keys:
        yield f"| `{key.name}` | {_takes(key.field.annotation)} | {_default(key)} | {_text(key.says)} |"
    yield ""


def _default(key: Key) -> str:
    default = key.field.get_default(call_default_factory=True, validated_data={})
    if default is PydanticUndefined:
        return "needed"
    if key.section is not None:
        return "null" if default is None else ""
    shown = json.dumps(default, ensure_ascii=False, default=str)
    return f"`{shown}`"


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
    return says.replace("|", "\\|").replace("<", "&lt;")


def _anchor(title: str) -> str:
    """As Markdown's table of contents makes it."""
    return title.lower().replace(":", "").replace(" ", "-")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
