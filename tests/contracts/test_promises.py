"""Every promise stands beside a test that exists under that name, and is called slow where it is."""

from __future__ import annotations

import ast
import functools
import re

from tests.contracts.source_tree import ROOT, parse

HEADER = re.compile(r"\| *(promise|fault|attack) *\||\|-")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`(?:, (slow))?")


def promised(text: str) -> list[tuple[str, str, bool]]:
    """(file, test, whether it is called slow) of every row of the tables; of one without ("", the row, False)."""
    rows = [row for row in text.splitlines() if row.startswith("|") and not HEADER.match(row)]
    found = [(row, NAMED.search(row)) for row in rows]
    return [(named[1], named[2], named[3] is not None) if named else ("", row, False) for row, named in found]


@functools.cache
def functions_of(file: str) -> dict[str, bool]:
    """Name -> whether `make test` leaves it out; of a test that is slow in some cases alone it runs the others."""
    path = ROOT / file
    body = parse(path).body if file and path.is_file() else []
    assigned = [node for node in body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"]
    of_module = [mark for node in assigned for mark in getattr(node.value, "elts", [node.value])]
    return {
        node.name: "pytest.mark.slow" in map(ast.unparse, (*of_module, *node.decorator_list))
        for node in body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def absent(text: str) -> list[str]:
    return [f"{file}: {name}" for file, name, _ in promised(text) if name not in functions_of(file)]


def misjudged(text: str) -> list[str]:
    wrong = []
    for file, name, said in promised(text):
        slow = functions_of(file).get(name, said)
        if slow is not said:
            wrong.append(f"{file}::{name}: is {'slow' if slow else 'quick'}, the page says otherwise")
    return wrong


def test_every_promise_has_its_test():
    text = (ROOT / "docs/promises.md").read_text(encoding="utf-8")
    assert len(promised(text)) > 80
    assert not absent(text)
    assert not misjudged(text)


def test_the_check_itself():
    here = "tests/contracts/test_promises.py"
    assert not absent(f"| it holds | `{here}::test_the_check_itself` |")
    assert absent(f"| it held | `{here}::test_that_was_renamed` |") == [f"{here}: test_that_was_renamed"]
    assert len(absent("| it may | no test |\n| it could | `tests/none.py::test_none` |")) == 2
    slow = "| it holds | `tests/faults/test_soak.py::test_a_long_run_grows_nothing` |"
    assert misjudged(slow) and not misjudged(slow.replace("` |", "`, slow |"))
    assert misjudged(f"| it holds | `{here}::test_the_check_itself`, slow |")
    assert not promised("| promise | test |\n|---|---|")
