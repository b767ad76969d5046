"""A chat template is a program out of a model folder: **rendered within a count of steps and sizes**.

Jinja's sandbox keeps it from files and attributes, not from the processor. Here every turn of a loop and every call is
a step, and what an operation makes has a greatest size, so a template that goes too far fails at the same place on
every machine.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from jinja2 import nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.visitor import NodeTransformer

STEPS = 1_000_000
"""Of one rendering: a thousand turns that each take a thousand."""
SIZE = 16 * 2**20
"""Characters or items of one value, and characters of the whole text."""
BITS = 4096
"""Of a number."""
NUMBER = 100_000
"""Greatest argument of a call: a width, an indent, a count."""
_COUNTED, _SIZED = "counted", "sized"
_WIDTH = re.compile(rf"\d{{{len(str(NUMBER))},}}")


class BoundedTemplate:
    """A template as transformers compiles one: its filters, its functions, its tags."""

    def __init__(self, source: str) -> None:
        """Raises jinja2's errors: it is no template."""
        from transformers.utils.chat_template_utils import _compile_jinja_template

        self._environment = _Bounded.like(_compile_jinja_template("").environment)
        self._template = self._environment.from_string(source)

    def render(self, **variables: Any) -> str:
        """
        Raises:
            SecurityError: it takes too many steps, or makes something too large. As jinja2 raises.
        """
        self._environment.begin()
        pieces, size = [], 0
        for piece in self._template.generate(**variables):
            pieces.append(piece)
            size += len(piece)
            _require(size <= SIZE, f"it writes more than {SIZE:,} characters")
        return "".join(pieces)


class _Bounded(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("*", "**", "+", "%"))

    @classmethod
    def like(cls, other: ImmutableSandboxedEnvironment) -> _Bounded:
        """With all that `other` was given; as `Environment.overlay` does it."""
        bounded = object.__new__(cls)
        bounded.__dict__.update(other.__dict__)
        bounded._left = threading.local()
        bounded.cache = None
        bounded.filters = {name: _filter(call) for name, call in other.filters.items()}
        bounded.filters |= {_COUNTED: bounded._counted, _SIZED: _sized}
        return bounded

    def begin(self) -> None:
        self._left.steps = STEPS

    def call(self, context: Context, function: Any, /, *args: Any, **named: Any) -> Any:
        self._step()
        method = getattr(function, "__wrapped__", function)  # the sandbox gives `str.format` another dress
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str):
            _check_text_method(owner, method.__name__, args)
        _check_arguments([*args, *named.values()])
        return _sized(super().call(context, function, *args, **named))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            lengths = [len(side) for side in (left, right) if isinstance(side, str | list | tuple)]
            counts = [side for side in (left, right) if isinstance(side, int)]
            _require(not lengths or not counts or lengths[0] * counts[0] <= SIZE, "it repeats something too often")
        elif operator == "**":
            _require(not isinstance(right, int) or right <= 64, f"it raises to the power {right}")
        elif operator == "%" and isinstance(left, str):
            _require(not _WIDTH.search(left), "it formats with too large a width")
        return _sized(super().call_binop(context, operator, left, right))

    def _parse(self, *source: Any) -> nodes.Template:
        return _Marking().visit(super()._parse(*source))

    def _counted(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self._step()
            yield item

    def _step(self) -> None:
        self._left.steps = getattr(self._left, "steps", STEPS) - 1
        _require(self._left.steps >= 0, f"it takes more than {STEPS:,} steps")


class _Marking(NodeTransformer):
    """Has every loop count its turns and every `~` its characters."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = _filtered(node.iter, _COUNTED)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self.generic_visit(node)
        return _filtered(node, _SIZED)


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _filter(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)  # with the mark of those that want the context
    def bounded(*args: Any, **named: Any) -> Any:
        texts = [value for value in args if isinstance(value, str)]
        if texts and call.__name__ in ("do_replace", "do_format"):
            _check_text_method(texts[0], call.__name__.removeprefix("do_"), texts[1:])
        _check_arguments([*args, *named.values()])
        return _sized(call(*args, **named))

    return bounded


def _check_text_method(text: str, name: str, args: Sequence[Any]) -> None:
    if name in ("format", "format_map"):
        _require(not _WIDTH.search(text), "it formats with too large a width")
    elif name == "replace" and len(args) > 1 and isinstance(args[1], str):
        _require((len(text) + 1) * len(args[1]) <= 16 * SIZE, "it replaces by something too large")


def _check_arguments(args: Sequence[Any]) -> None:
    for value in args:
        _require(not isinstance(value, int) or abs(value) <= NUMBER, f"it calls with a number beyond {NUMBER:,}")
        if isinstance(value, list | tuple):
            _require(sum(len(item) for item in value if isinstance(item, str)) <= SIZE, "it joins too much")


def _sized(value: Any) -> Any:
    if isinstance(value, str | list | tuple | dict):
        _require(len(value) <= SIZE, f"it makes something of {len(value):,} characters or items")
    elif isinstance(value, int):
        _require(value.bit_length() <= BITS, "it makes too large a number")
    return value


def _require(holds: bool, else_: str) -> None:
    if not holds:
        raise SecurityError(f"{else_}: a chat template may not")
