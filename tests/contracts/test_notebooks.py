"""The notebooks: their cells compile, what they import is there, and the columns and files that they name exist."""

from __future__ import annotations

import ast
import importlib
import json
import re

import pytest

from rollout.schema import SCHEMA
from tests.contracts.source_tree import ROOT

NOTEBOOKS = sorted((ROOT / "examples/notebooks").glob("*.ipynb"))


def code_of(path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_compile_and_their_imports_exist(path) -> None:
    tree = ast.parse("\n".join(code_of(path)))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    for node in imports:
        module = importlib.import_module(node.module)
        assert not [alias.name for alias in node.names if not hasattr(module, alias.name)], node.module
    assert imports


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_is_kept(path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


def test_columns_of_answers_are_those_of_the_store() -> None:
    code = "\n".join(code_of(ROOT / "examples/notebooks/quickstart.ipynb"))
    [listed] = re.findall(r"answers\[\[(.*?)\]\]", code)
    assert set(re.findall(r'"(\w+)"', listed)) <= set(SCHEMA.names)
