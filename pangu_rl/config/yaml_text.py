"""YAML text -> **plain values by the rules of YAML 1.2**, in which `1e-3` is a number, `1:30` and `no` are text."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import yaml

_TAGS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)|0x[0-9a-fA-F]+|0o[0-7]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?(?=[eE.])|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "null": (r"~|null|Null|NULL|", ("~", "n", "N", "")),
    "merge": (r"<<", "<"),
}
"""Tag -> what is of it, and how that begins. A number with a leading zero is text, so that 007 keeps its
zeros; `_` within one is read over, as Python does."""


class Loader(yaml.SafeLoader):
    """PyYAML's own follows YAML 1.1, takes the last of two equal keys and says nothing."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """A text that is none of its tag, such as a number of more digits than Python reads, is told with its place."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError):
            value, tag = str(node.value)[:40], node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                None, None, f"{value} cannot be read as {tag}", node.start_mark
            ) from None

    def whole_number(self, node: yaml.ScalarNode) -> int:
        return int(self.construct_scalar(node), 0)


for _tag, (_pattern, _first) in _TAGS.items():
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), list(_first))
Loader.add_constructor("tag:yaml.org,2002:int", Loader.whole_number)


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
        yaml.YAMLError: the text is no YAML, or a key stands twice in a mapping.
    """
    return yaml.load(text, Loader=Loader)
