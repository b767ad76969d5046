"""YAML text -> **plain values by the rules of YAML 1.2**, in which `1e-3` is a number, `1:30` and `no` are text."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import yaml

_TAGS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+|0o[0-7]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?(?=[eE.])|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "null": (r"~|null|Null|NULL|", ("~", "n", "N", "")),
    "merge": (r"<<", "<"),
}
"""Tag -> what is of it, and how that begins. A number with a leading zero is text, so that 007 keeps its zeros, and so
is one with `_`; pydantic reads 1_000 where a number is wanted."""
_PREFIX = "tag:yaml.org,2002:"
_PLAIN = (*(_PREFIX + tag for tag in ("bool", "int", "float", "null", "str", "map", "seq")), None)
"""Tags of what JSON has too; the last is PyYAML's for all others, which it refuses."""


class WholeNumber(int):
    """Its text, where that is another one than Python's: `0x1F` may name a run, and pydantic asks `str` for text."""

    text = ""

    def __str__(self) -> str:
        return self.text


class Fraction(float):
    """The same of `1.10` and `12e4567`."""

    text = ""

    def __str__(self) -> str:
        return self.text


class Loader(yaml.SafeLoader):
    """PyYAML's own follows YAML 1.1, takes the last of two equal keys and says nothing."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {}
    yaml_constructors: ClassVar[dict[Any, Any]] = {tag: yaml.SafeLoader.yaml_constructors[tag] for tag in _PLAIN}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"):
            if (found := self.construct_object(key)) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value} stands twice", key.start_mark)
            seen.add(found)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """A text that is none of its tag, such as a number of more digits than Python reads, is told with its place."""
        if node in self.recursive_objects:
            raise yaml.constructor.ConstructorError(None, None, "an anchor within itself", node.start_mark)
        try:
            # Deep, so that what holds itself is met while it is still being made.
            return super().construct_object(node, deep=True)
        except (ValueError, LookupError, AttributeError):
            value, tag = str(node.value)[:40], node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                None, None, f"{value!a} cannot be read as {tag}", node.start_mark
            ) from None

    def whole_number(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node)
        return _with_text(WholeNumber(text, 0), int(text, 0), text)

    def fraction(self, node: yaml.ScalarNode) -> float:
        value = self.construct_yaml_float(node)
        return _with_text(Fraction(value), value, self.construct_scalar(node))

    def text(self, node: yaml.ScalarNode) -> str:
        """Half a surrogate pair could be read, and written nowhere."""
        text = self.construct_scalar(node)
        text.encode()
        return text


class Dumper(yaml.SafeDumper):
    """Quotes what is no text by YAML 1.1, for other readers, or by the rules above."""


def _with_text(number: Any, value: Any, text: str) -> Any:
    number.text = text
    return value if str(value) == text else number


for _tag, (_pattern, _first) in _TAGS.items():
    for _kind in (Loader, Dumper):
        _kind.add_implicit_resolver(_PREFIX + _tag, re.compile(f"(?:{_pattern})$"), list(_first))
for _tag, _method in (("int", Loader.whole_number), ("float", Loader.fraction), ("str", Loader.text)):
    Loader.add_constructor(_PREFIX + _tag, _method)


def problem(error: yaml.YAMLError | UnicodeDecodeError) -> str:
    """What is wrong with a text and where, in one line."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is no UTF-8: save the file as UTF-8"
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    mark = error.problem_mark
    hint = "; indent with blanks, not with tabs" if "'\\t'" in (error.problem or "") else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: {' '.join((error.problem or '').split())}{hint}"


def parse(text: str) -> Any:
    """
    Raises:
        yaml.YAMLError: the text is no YAML, a key stands twice in a mapping, or an anchor within itself.
    """
    try:
        return yaml.load(text, Loader=Loader)
    except RecursionError:
        raise yaml.YAMLError("lists or sections within each other, more than can be read") from None


def plain(value: Any) -> Any:
    """What `parse` gives, with plain numbers: for whoever takes any value, such as a function's arguments."""
    if isinstance(value, dict):
        return {plain(key): plain(below) for key, below in value.items()}
    if isinstance(value, list):
        return [plain(below) for below in value]
    kind = {WholeNumber: int, Fraction: float}.get(type(value))
    return value if kind is None else kind(value)


def dumped(tree: Any, width: int = 80) -> str:
    """Plain values as YAML, which `parse` reads back as they are."""
    return yaml.dump(tree, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=width)
