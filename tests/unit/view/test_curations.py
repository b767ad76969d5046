"""A curation on the page: its counts as they come, and its report as a page that can do nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pangu_rl.errors import DataError
from pangu_rl.view.access import HEADERS, WRITTEN_PAGE
from pangu_rl.view.opened import Opened
from tests.unit.report.drawn_run import build_run
from tests.unit.view.opened_page import asked, client_of, refused, strange_client

COUNTS = [
    {"operator": "input", "in": 9, "out": 8, "dropped": {}, "errors": {"no row": 1}, "edited": {}},
    {"operator": "valid_rows", "in": 8, "out": 5, "dropped": {"<b>empty": 3}, "errors": {}, "edited": {}},
]
PAGE = "<!doctype html><script>alert(1)</script><style>p{color:red}</style><p>r\u00e9port</p>"


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    (tmp_path / "curated/stages").mkdir(parents=True)
    (tmp_path / "curated/stages/plan.json").write_text("{}")
    return tmp_path / "curated"


def end(folder: Path) -> None:
    tree = {"input": [{"name": "in.jsonl"}], "rows": 5, "counts": [one | {"annotated": 0} for one in COUNTS]}
    (folder / "curation.json").write_text(json.dumps(tree))
    (folder / "report.html").write_text(PAGE, encoding="utf-8")


def test_counts_come_when_it_is_through(begun: Path) -> None:
    client = client_of(begun)
    told = asked(client, "runs")
    assert (told["runs"], told["pipelines"], told["curations"]) == ([], [], ["curated"])
    waiting = {"name": "curated", "input": [], "rows": None, "operators": [], "report": False}
    assert asked(client, "curations") == [waiting]
    end(begun)
    assert asked(client, "curations") == [
        {"name": "curated", "input": ["in.jsonl"], "rows": 5, "operators": COUNTS, "report": True}
    ]


def test_it_stands_beside_runs(begun: Path, tmp_path: Path) -> None:
    told = asked(client_of(build_run(tmp_path / "view", steps=1), begun), "runs")
    assert [run["name"] for run in told["runs"]] == ["a run"] and told["curations"] == ["curated"]


def test_its_report_is_a_page_that_can_do_nothing(begun: Path) -> None:
    end(begun)
    assert strange_client(begun).get("/report", params={"name": "curated"}).status_code == 401
    answer = client_of(begun).get("/report", params={"name": "curated"})
    assert answer.text == PAGE and answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"] == WRITTEN_PAGE
    assert WRITTEN_PAGE.startswith("sandbox; default-src 'none'; ") and "script" not in WRITTEN_PAGE
    others = HEADERS.keys() - {"content-security-policy"}
    assert {name: answer.headers[name] for name in others} == {name: HEADERS[name] for name in others}


@pytest.mark.parametrize("name", ["", "other", "../curated", "curated/report.html", "/etc"])
def test_only_open_curations_have_one(begun: Path, name: str) -> None:
    end(begun)
    assert client_of(begun).get("/report", params={"name": name}).status_code == 404


def test_a_link_that_another_put_there_is_not_followed(begun: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (begun / "report.html").symlink_to(tmp_path / "secret")
    client = client_of(begun)
    assert client.get("/report", params={"name": "curated"}).status_code == 404
    assert not asked(client, "curations")[0]["report"]


@pytest.mark.parametrize("text", ["{", "[]", '{"counts": [{}]}', '{"input": [1]}'])
def test_a_file_that_is_none_is_one_line(begun: Path, text: str) -> None:
    (begun / "curation.json").write_text(text)
    assert "curation.json: not what a pipeline of curation writes" in refused(client_of(begun), "curations")


def test_a_folder_that_nothing_wrote_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        Opened([tmp_path])
