"""What is imported from our packages is there, benchmarks and examples included, which no other test imports."""

from __future__ import annotations

import ast
from functools import lru_cache
from pathlib import Path

from tests.contracts.source_tree import PACKAGES, ROOT, parse, place, sources


@lru_cache
def names_of(file: Path) -> frozenset[str]:
    """Bound at the top of a file, also under `if` and `try`."""
    found: set[str] = set()
    waiting: list[ast.stmt] = list(parse(file).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found.update(alias.asname or alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.If | ast.Try):
            waiting += [child for child in ast.walk(node) if isinstance(child, ast.stmt) and child is not node]
        else:
            found.update(part.id for part in ast.walk(node) if isinstance(part, ast.Name))
    return frozenset(found)


def missing(module: str, name: str) -> bool:
    folder = ROOT.joinpath(*module.split("."))
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    if not file.exists():
        # A folder without a file of its own is a package all the same.
        return not folder.is_dir() or not (folder / f"{name}.py").exists()
    return name not in names_of(file) and not (folder / f"{name}.py").exists() and not (folder / name).is_dir()


def test_every_name_that_is_imported_from_our_packages_exists() -> None:
    complaints = [
        f"{place(path, node)}: {node.module} has no {alias.name}"
        for path in sources(*PACKAGES, "benchmarks", "examples")
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES
        for alias in node.names
        if missing(node.module, alias.name)
    ]
    assert not complaints, "\n".join(complaints)


def test_the_check_finds_a_name_that_is_gone() -> None:
    assert missing("pangu_rl.errors", "NoSuchError")
    assert missing("pangu_rl.no_such_module", "anything")
    assert not missing("pangu_rl.errors", "RunError")
    assert not missing("pangu_rl.learner", "model")
