"""A schema -> **its keys**: what each is called, holds, is by default and means, in the order of the file."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pangu_rl.config.names.other_trainers import counterpart


@dataclass(frozen=True, slots=True)
class Key:
    """A setting, or a section of them."""

    name: str
    """Dotted; `[]` stands for each entry of a list, `NAME` for each name of a mapping."""
    field: FieldInfo
    section: type[BaseModel] | None
    """Schema of what lies under it, of a list or mapping of each entry."""
    default: Any
    """By the default of the section that it stands in, if that has one; `PydanticUndefined` where there is none."""

    @property
    def says(self) -> str:
        """Its docstring, as one paragraph."""
        return " ".join((self.field.description or "").split())


def keys_of(schema: type[BaseModel], prefix: str = "", default: BaseModel | None = None) -> Iterator[Key]:
    """All keys of `schema`, each section before what lies under it; `default` is the section where nothing is said."""
    for name, field in schema.model_fields.items():
        section, path = section_of(field.annotation)
        own = field.get_default(call_default_factory=True, validated_data={})
        held = own if default is None else getattr(default, name)
        yield Key(f"{prefix}{name}", field, section, held)
        if section is not None:
            below = held if isinstance(held, section) and not path else None
            yield from keys_of(section, f"{prefix}{name}{path}.", below)


def section_of(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The schema in a type and how its entries are named: `[]` of a list, `.NAME` of a mapping, nothing of one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    step = {dict: ".NAME", tuple: "[]", list: "[]"}.get(get_origin(annotation), "")
    for argument in get_args(annotation):
        section, path = section_of(argument)
        if section is not None:
            return section, step + path
    return None, ""


def known_keys(schema: type[BaseModel], place: tuple[Any, ...]) -> list[str]:
    """Names that may stand at `place` of a file, which pydantic gives: keys, numbers of a list, names of a mapping."""
    node: Any = schema
    is_name = False
    for part in place:
        if isinstance(part, int) or is_name:
            is_name = False
            continue
        field = node.model_fields.get(part)
        node, path = section_of(field.annotation) if field is not None else (None, "")
        if node is None:
            return []
        is_name = path.startswith(".NAME")
    return list(node.model_fields)


def likely_key(schema: type[BaseModel], place: tuple[Any, ...], name: str, value: Any = None) -> str:
    """The way out of the unknown key `name` at `place`: the key of that name elsewhere, else that which another trainer
    calls so, else the nearest one here, else those that are meant by what it holds."""
    keys = [key.name for key in keys_of(schema)]
    if meant := _meant(name, keys):
        return f"did you mean {meant}?"
    here = known_keys(schema, place)
    if near := difflib.get_close_matches(name, here, n=1):
        return f"did you mean {near[0]}?"
    leaves = [(key, key if key in keys else _meant(key.rpartition(".")[2], keys)) for key in _leaves(value)]
    below = [f"{meant} for {name}.{key}" for key, meant in leaves if meant]
    return f"did you mean {', '.join(below[:3])}?" if below else f"known keys: {', '.join(sorted(here))}"


def _meant(name: str, keys: list[str]) -> str | None:
    elsewhere = [key for key in keys if key.rpartition(".")[2] == name]
    return " or ".join(elsewhere[:3]) or counterpart(name, keys)


def _leaves(value: Any, above: str = "") -> Iterator[str]:
    """Dotted keys of a section's values."""
    for name, below in value.items() if isinstance(value, Mapping) else ():
        yield from _leaves(below, f"{above}{name}.") if isinstance(below, Mapping) else [f"{above}{name}"]


def nearest(name: str, known: Iterable[str]) -> str:
    """The way out of a name that is not among the `known` ones."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f": did you mean {near[0]}?" if near else f": there are {', '.join(known)}"
