"""YAML + dotted overrides -> a checked configuration; every complaint names the key, both values and the way out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from pangu_rl.config import yaml_text
from pangu_rl.config.keys import likely_key
from pangu_rl.config.names.named_files import take_beside
from pangu_rl.config.names.shipped import likely_file, shipped
from pangu_rl.config.secrets import masked, masked_text
from pangu_rl.errors import ConfigError

T = TypeVar("T", bound=BaseModel)


def load_config(schema: type[T], path: str | Path, overrides: Sequence[str] = ()) -> T:
    """Read `path`, apply `a.b=c` overrides (values are YAML scalars), check against `schema`.

    Relative paths are those of the working directory, or, where nothing lies there, of the file's own folder; `path`
    may be the name of a shipped configuration.

    Raises:
        ConfigError: missing file, bad YAML, unknown key (with the nearest right name), bad value, broken rule.
    """
    return load_tree(schema, read_tree(path, overrides), path, overrides)


def load_tree(schema: type[T], tree: dict[str, Any], path: str | Path, overrides: Sequence[str] = ()) -> T:
    """The same of what `read_tree` has read of both; paths are set in `tree` itself."""
    path = shipped(path)
    take_beside(tree, path.parent)
    return checked(schema, tree, str(path), {override.partition("=")[0] for override in overrides})


def read_tree(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """File and overrides, unchecked; raises as `read_yaml` and `apply_override`."""
    tree = read_yaml(path)
    for override in overrides:
        apply_override(tree, override)
    return tree


def checked(schema: type[T], tree: dict[str, Any], origin: str, overridden: Collection[str] = ()) -> T:
    """`tree` as a `schema`; a `ConfigError` begins with `origin`, and says of `overridden` keys where they stand."""
    try:
        return schema.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{origin}: " + "; ".join(_explain(schema, e, overridden) for e in error.errors())) from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """
    Raises:
        ConfigError: no such file, not YAML, a key that stands twice in a section, or no sections at all.
    """
    try:
        tree = yaml_text.parse(shipped(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file: {likely_file(Path(path))}") from None
    except IsADirectoryError:
        its_own = Path(path) / "config.yaml"
        hint = f"that of a run is {its_own}" if its_own.is_file() else "a configuration is a YAML file"
        raise ConfigError(f"{path}: is a folder; {hint}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {yaml_text.problem(error)}") from None
    if not isinstance(tree, dict):
        found = "an empty file" if tree is None else f"a {type(tree).__name__}"
        raise ConfigError(
            f"{path}: expected sections (model:, data:, ...), found {found}; `pangu-rl init STAGE` writes some to "
            "start from"
        )
    return tree


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Set `a.b.c=value` in a nested dict, in place."""
    key, found, text = override.partition("=")
    # No more than the key is repeated: what stands behind it may be one that opens doors.
    shown = masked_text(re.split(r"[\s:{\[]", key, maxsplit=1)[0])
    if not found or not all(key.split(".")):
        raise ConfigError(f"override {shown!r}: write it as section.key=value")
    try:
        value = yaml_text.parse(text)
    except yaml.YAMLError:
        raise ConfigError(f"override {shown!r}: the value is not YAML; quote it") from None
    set_key(tree, key, value)


def set_key(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set the dotted `key` of a nested dict, in place.

    Raises:
        ConfigError: a part of the key names a value or a list, which have no keys.
    """
    *sections, leaf = key.split(".")
    node = tree
    for depth, section in enumerate(sections, 1):
        child = node.setdefault(section, {})
        if child is None:
            child = node[section] = {}
        if isinstance(child, list):
            name = ".".join(sections[:depth])
            raise ConfigError(
                f"override {key!r}: {section} is a list: change its entry in the file, or give the whole list, "
                f"'{name}=[...]'"
            )
        if not isinstance(child, dict):
            raise ConfigError(f"override {key!r}: {section} is a value, not a section")
        node = child
    node[leaf] = value


def dump_config(config: BaseModel) -> str:
    """The resolved configuration as YAML; loading it back gives an equal configuration, but for keys in it (`***`)."""
    return yaml_text.dumped(masked(config.model_dump(mode="json")))


def config_digest(config: BaseModel) -> str:
    """sha256 over all of it, hex, also over keys: of two configurations that are shown alike as well."""
    return hashlib.sha256(yaml_text.dumped(config.model_dump(mode="json")).encode()).hexdigest()


_FORMS = {
    "model_type": "is to be a section, keys with values: {key: value}",
    "model_attributes_type": "is to be a section, keys with values: {key: value}",
    "dict_type": "is to be names with values: {name: value}",
    "tuple_type": "is to be a list: [value]",
    "list_type": "is to be a list: [value]",
}
"""Type of pydantic's error -> what the file has in its place; pydantic's own words are of Python."""


def _explain(schema: type[BaseModel], error: dict[str, Any], overridden: Collection[str]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    told = _told(schema, error, where)
    return f"{told} (set behind the command)" if where in overridden else told


def _told(schema: type[BaseModel], error: dict[str, Any], where: str) -> str:
    if error["type"] == "extra_forbidden":
        return f"unknown key {where}: " + likely_key(schema, error["loc"][:-1], str(error["loc"][-1]), error["input"])
    if error["type"] == "missing":
        return f"missing key {where}: add it to the file or as an override {where}=VALUE"
    message = masked_text(error["msg"].removeprefix("Value error, "))
    if error["type"] == "value_error":
        return f"{where}: {message}" if where else message
    name = next((part for part in reversed(error["loc"]) if isinstance(part, str)), "")
    given = "empty" if error["input"] is None else repr(masked(error["input"], name))
    return f"{where} is {given}: {_FORMS.get(error['type'], message)}"
