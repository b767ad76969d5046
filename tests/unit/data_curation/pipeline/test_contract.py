"""The contract's check finds what breaks it, and an operator that keeps it passes."""

from __future__ import annotations

import pytest

from data_curation.pipeline.contract import check_operator
from pangu_rl.monitoring.findings import passed
from tests.unit.data_curation.pipeline.builders import OWN, own, write_jsonl


@pytest.fixture
def rows(tmp_path):
    return write_jsonl(tmp_path / "rows.jsonl", [{"id": f"r{n}", "n": n} for n in range(1, 4)])


def test_an_operator_that_keeps_the_contract_passes(rows) -> None:
    found = check_operator(f"{OWN}:no_odd", {"least": 2}, rows)
    assert passed(found) and [finding.check for finding in found] == ["usable", "verdicts", "deterministic", "row"]
    assert passed(check_operator("text_length", {}))


def failing(rows, name: str, **args) -> str:
    found = check_operator(own(name)["name"], args, rows)
    return next(finding.detail for finding in found if finding.status == "fail")


def test_what_cannot_be_used_is_told_without_being_run(rows) -> None:
    assert "is not declared one" in failing(rows, "no_operator")
    assert "unknown key leest: did you mean least?" in failing(rows, "no_odd", leest=1)
    assert "no function 'no_od' in the file: did you mean no_odd?" in failing(rows, "no_od")


@pytest.mark.slow
def test_each_breach_is_found(rows) -> None:
    assert "changes the row r2" in failing(rows, "meddler")
    assert "changes its mind" in failing(rows, "every_other")
    assert "r2" in failing(rows, "killed_once", at=2, marker="")
