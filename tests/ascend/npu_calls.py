"""Our calls of torch-npu's operators -> **whether they bind to its schemas**, by reading alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

OWNERS = {"torch.ops.npu", "torch_npu"}


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it is written."""

    name: str
    node: ast.Call
    positional: int
    """Arguments without a name, as far as they can be counted."""
    keywords: frozenset[str]
    whole: bool
    """Whether no argument comes out of a sequence or a mapping, which cannot be read here."""


def npu_calls(tree: ast.AST) -> Iterator[Call]:
    """`torch.ops.npu.NAME(...)` and `torch_npu.npu_NAME(...)`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if ast.unparse(node.func.value) not in OWNERS:
            continue
        named = frozenset(keyword.arg for keyword in node.keywords if keyword.arg)
        plain = [argument for argument in node.args if not isinstance(argument, ast.Starred)]
        whole = len(plain) == len(node.args) and len(named) == len(node.keywords)
        yield Call(node.func.attr, node, len(plain), named, whole)


def complaint(call: Call, schemas: Mapping[str, str]) -> str | None:
    """Why a call does not bind to its schema; None if it does."""
    if call.name not in schemas:
        return f"{call.name} is no operator of torch-npu's"
    arguments = torch._C.parse_schema(f"npu::{schemas[call.name]}").arguments
    names = [argument.name for argument in arguments]
    if unknown := sorted(call.keywords - set(names)):
        return f"{call.name} has no {', '.join(unknown)}"
    free = [argument.name for argument in arguments if not argument.kwarg_only]
    if call.positional > len(free):
        return f"{call.name} takes {len(free)} arguments without a name, and is given {call.positional}"
    given = call.keywords | set(free[: call.positional])
    missing = [a.name for a in arguments if not a.has_default_value() and a.name not in given]
    return f"{call.name} is not given {', '.join(missing)}" if call.whole and missing else None
