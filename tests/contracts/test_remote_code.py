"""Whatever an Auto class of transformers loads is told whether a folder may run code of its own.

One that is not told asks at the terminal, and a "y" that was meant for something else runs it.
"""

from __future__ import annotations

import ast

import pytest

from tests.contracts.source_tree import parse, place, sources


def untold(tree: ast.Module) -> list[ast.Call]:
    """Calls of `Auto....from_pretrained` without `trust_remote_code`."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    return [
        call
        for call in calls
        if call.func.attr == "from_pretrained"
        and ast.unparse(call.func.value).rpartition(".")[2].startswith("Auto")
        and "trust_remote_code" not in {keyword.arg for keyword in call.keywords}
    ]


def test_every_auto_class_is_told_whether_code_may_run():
    found = [f"{place(path, call)}: {ast.unparse(call)}" for path in sources() for call in untold(parse(path))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("AutoTokenizer.from_pretrained(path)", 1),
        ("transformers.AutoConfig.from_pretrained(path, local_files_only=True)", 1),
        ("AutoTokenizer.from_pretrained(path, trust_remote_code=False)", 0),
        ("LlamaForCausalLM.from_pretrained(path)", 0),
    ],
)
def test_the_check_itself(code: str, count: int):
    assert len(untold(ast.parse(code))) == count
