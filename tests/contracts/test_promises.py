"""Every promise stands beside a test that exists, and the test is called what the page calls it."""

from __future__ import annotations

import ast
import re

from tests.contracts.source_tree import ROOT, parse

HEADER = re.compile(r"\| *(promise|fault|attack) *\||\|-")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def promised(text: str) -> list[tuple[str, str]]:
    """(file, test) of every row of the page's tables; a row without one is ("", the row)."""
    rows = [row for row in text.splitlines() if row.startswith("|") and not HEADER.match(row)]
    return [found.groups() if (found := NAMED.search(row)) else ("", row) for row in rows]


def absent(text: str) -> list[str]:
    wrong = []
    for file, name in promised(text):
        path = ROOT / file
        tests = parse(path).body if file and path.is_file() else []
        if name not in {node.name for node in tests if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}:
            wrong.append(f"{file}: {name}")
    return wrong


def test_every_promise_has_its_test():
    text = (ROOT / "docs/promises.md").read_text(encoding="utf-8")
    assert len(promised(text)) > 80
    assert not absent(text)


def test_the_check_itself():
    here = "tests/contracts/test_promises.py"
    assert not absent(f"| it holds | `{here}::test_the_check_itself` |")
    assert absent(f"| it held | `{here}::test_that_was_renamed` |") == [f"{here}: test_that_was_renamed"]
    assert len(absent("| it may | no test |\n| it could | `tests/none.py::test_none` |")) == 2
    assert not promised("| promise | test |\n|---|---|")
