"""Every package that data or weights are taken from stands in one table with its terms; the project has its own."""

from __future__ import annotations

import re
import tomllib

from data_curation.corpus.materials import DEBIAN, PYPI
from tests.contracts.source_tree import ROOT

TOOLS = {"gguf"}
"""Of the extras `corpus` and `quickstart`: code alone, of nobody's data."""


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_table_names_every_source_of_data_and_models():
    rows = (ROOT / "docs/third_party.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if row.startswith("|")]
    terms = {name: row[-1] for row in cells for name in row[0].split(", ")}
    extras = project()["optional-dependencies"]
    wanted = [re.split("[=><]", package)[0] for key in ("corpus", "quickstart") for package in extras[key]]
    for package in {*PYPI.values(), *DEBIAN, *wanted} - TOOLS:
        assert terms.get(package), f"docs/third_party.md has no terms of {package}"


def test_the_project_has_a_licence_in_its_tree_and_its_package():
    assert project()["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
