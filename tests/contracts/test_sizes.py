"""A file ends at 500 lines and a function at a screen of 80; seven parameters, then a record."""

from __future__ import annotations

import ast

from tests.contracts.source_tree import parse, place, sources

FILE_LINES = 500
FUNCTION_LINES = 80
PARAMETERS = 7
CONTRACTED = {"grpo_loss", "mpo_loss", "balanced_loss"}
"""Functions whose signatures are fixed by the design; their options are keyword-only."""


def functions() -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    return [
        (place(path, node), node)
        for path in sources()
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_files_end_at_500_lines():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    long = [f"{path}: {length} lines" for path, length in lengths.items() if length > FILE_LINES]
    assert not long, "\n".join(long)


def test_functions_fit_a_screen():
    long = [f"{where} {f.name}" for where, f in functions() if f.end_lineno - f.lineno + 1 > FUNCTION_LINES]
    assert not long, "\n".join(long)


def test_more_than_seven_parameters_want_a_record():
    wide = [
        f"{where} {f.name}"
        for where, f in functions()
        if f.name not in CONTRACTED
        and len([a for a in f.args.posonlyargs + f.args.args + f.args.kwonlyargs if a.arg not in ("self", "cls")])
        > PARAMETERS
    ]
    assert not wide, "\n".join(wide)


def test_every_parameter_and_return_is_annotated():
    bare = [
        f"{where} {f.name}"
        for where, f in functions()
        if f.returns is None
        or any(a.annotation is None for a in f.args.args + f.args.kwonlyargs if a.arg not in ("self", "cls"))
    ]
    assert not bare, "\n".join(bare)
