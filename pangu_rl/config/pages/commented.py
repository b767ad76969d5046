"""A configuration -> **YAML with what each setting means above it**; loading it back gives an equal configuration."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from pangu_rl.config import yaml_text
from pangu_rl.config.secrets import masked

WIDTH = 120
INDENT = "  "


def commented(config: BaseModel) -> str:
    """All settings in the order of their schemas, each below its docstring; keys are masked (`***`)."""
    return "\n".join(_lines(config, masked(config.model_dump(mode="json")), "")) + "\n"


def _lines(config: BaseModel, tree: dict[str, Any], indent: str) -> Iterator[str]:
    for name, field in type(config).model_fields.items():
        if field.description:
            said = " ".join(field.description.split())
            yield from textwrap.wrap(said, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        value = getattr(config, name)
        if isinstance(value, BaseModel) and type(value).model_fields:
            yield f"{indent}{name}:"
            yield from _lines(value, tree[name], indent + INDENT)
        else:
            text = yaml_text.dumped({name: tree[name]}, WIDTH)
            yield textwrap.indent(text.rstrip("\n"), indent)
