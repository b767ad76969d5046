"""Tables that models read out of charts: which of two agree, by hand, and what becomes of the row."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from data_curation.operators.written._writer import Table
from data_curation.operators.written.chart_tables import agreement, chart_tables
from data_curation.pipeline.record import Record
from data_curation.pipeline.run import run_pipeline
from pangu_rl.config.load import dump_config
from pangu_rl.config.sections.scorers import WriterConfig
from pangu_rl.errors import ConfigError
from tests.unit.data_curation.operators.pictures import saved, scene
from tests.unit.data_curation.pipeline.builders import lines_of, pipeline, write_jsonl
from tests.unit.rewards.scorers.endpoint import Answer, scorer, serving

SALES = Table(columns=["Year", "Tea", "Coffee"], rows=[["2020", 100, 40], ["2021", 200.0, None]])


def said(columns: list[str], *rows: list[Any]) -> tuple[float, str]:
    return agreement(SALES, Table(columns=columns, rows=list(rows)))


def test_cells_of_the_same_names_are_compared() -> None:
    """Of 100 and 200 within 5 % are 105 and 190, not 106; nothing is not 0. Four cells: one that differs is 3/4."""
    assert said(["", "tea", "COFFEE"], ["2020", 105, 40], ["2021", 190, None]) == (1.0, "")
    assert said(["year", "coffee", "tea"], ["2021", None, "200"], ["2020", 40.0, "1e2"])[0] == 1.0
    assert said(["", "2020", "2021"], ["Tea", 100, 200], ["Coffee", 40, None])[0] == 1.0
    share, difference = said(["Year", "Tea", "Coffee"], ["2020", 106, 40], ["2021", 200, None])
    assert share == 0.75 and difference == "2020, tea: '100' and '106'; 1 of 4 cells differ"
    assert said(["Year", "Tea", "Coffee"], ["2020", 100, 40], ["2021", 200, 0])[0] == 0.75


def test_cells_that_only_one_has_differ() -> None:
    """A third year of two cells more: 4 of 6. A series of another name has two cells that the first one
    lacks, and lacks two: 2 of 6."""
    third = said(["Year", "Tea", "Coffee"], ["2020", 100, 40], ["2021", 200, None], ["2022", 1, 2])
    assert third == (pytest.approx(4 / 6), "2022, tea: none and '1'; 2 of 6 cells differ")
    assert said(["Year", "Tea", "Milk"], ["2020", 100, 40], ["2021", 200, None])[0] == pytest.approx(2 / 6)
    assert agreement(SALES, Table(columns=[], rows=[]))[0] == 0.0


def test_a_single_series_may_have_any_name_and_a_name_may_come_twice() -> None:
    one = Table(columns=["Fruit", "Sales"], rows=[["Fig", 3], ["Fig", 5]])
    assert agreement(one, Table(columns=["Kind", "Value"], rows=[["fig", 3], ["fig", 5]]))[0] == 1.0
    assert agreement(one, Table(columns=["Kind", "Value"], rows=[["fig", 5], ["fig", 3]]))[0] == 0.0


def test_a_single_series_lies_or_stands_in_either_table() -> None:
    """Of three values one that differs leaves 2/3; years that differ are no names of a series; nor is the one name of a
    single value."""
    standing = Table(columns=["Year", "Sales"], rows=[["2020", 3], ["2021", 5], ["2022", 7]])
    lying = Table(columns=["", "2020", "2021", "2022"], rows=[["Sales", 3, 5, 7]])
    named = Table(columns=["", "2020", "2021", "2022"], rows=[["Turnover", 3, 5, 8]])
    later = Table(columns=["", "2021", "2022", "2023"], rows=[["Sales", 3, 5, 7]])
    for one, other in ((standing, lying), (lying, standing), (lying, lying)):
        assert agreement(one, other) == (1.0, "")
    for one in (standing, lying):
        assert agreement(one, named)[0] == agreement(named, one)[0] == pytest.approx(2 / 3)
        assert agreement(one, later)[0] == agreement(later, one)[0] == 0.0
    fig, kiwi = (Table(columns=["Fruit", "Sales"], rows=[[name, 3]]) for name in ("Fig", "Kiwi"))
    assert agreement(fig, kiwi)[0] == 0.0
    assert agreement(fig, Table(columns=["", "fig"], rows=[["Sales", 3]]))[0] == 1.0


def test_charts_become_questions_where_two_models_agree(tmp_path: Path) -> None:
    """The second model reads 12 of the second chart, where the first reads 10; the third is a photograph to both; of
    the fourth the first model's rows are never as long as its columns. Rows with a table or with text are let be."""
    replies = {
        "first": [[["a", 10]], [["b", 10]], None, [["d", 1, 2]]],
        "second": [[["A", 10.4]], [["b", 12]], None, [["d", 1]]],
    }
    pictures = [saved(tmp_path, f"{n}.png", scene(n, (64, 48))) for n in range(4)]

    def answer(body: dict) -> Answer:
        url = body["messages"][1]["content"][0]["image_url"]["url"]
        rows = replies[body["model"]][urls.setdefault(url, len(urls))]
        return Answer(json.dumps({"columns": ["Key", "Value"] if rows else [], "rows": rows or []}))

    urls: dict[str, int] = {}
    rows = [{"id": f"r{n}", "images": [name], "kind": "bar chart"} for n, name in enumerate(pictures)]
    rows.append({"id": "has", "images": [pictures[0]], "table": {"columns": ["x"], "rows": [[1]]}})
    rows.append({"id": "text", "images": [pictures[0]], "document": ["A chart."]})
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    with serving(answer) as endpoint:
        files = {name: writer_file(tmp_path, endpoint.url, name) for name in replies}
        args = {"writer": files["first"], "second": files["second"]}
        operators = [{"name": "chart_tables", "args": args}, {"name": "table_answers", "args": {"forms": ["csv"]}}]
        more = {"media_root": str(tmp_path), "workers": {"concurrency": 1}, "max_error_rate": 0.5}
        run_pipeline(pipeline(source, tmp_path / "out", operators, **more))
    kept = {row["id"]: row for row in lines_of(tmp_path / "out/rows")}
    assert set(kept) == {"r0", "has", "text"} and "messages" not in kept["text"]
    turns = [turn["content"] for turn in kept["r0"]["messages"]]
    assert turns == ["Convert the bar chart in the image to a table in CSV.", "Key,Value\na,10"]
    aside = {line["id"]: (line["kind"], line["reason"], line["detail"]) for line in lines_of(tmp_path / "out/dropped")}
    assert aside["r1"] == ("drop", "tables disagree", "b: '10' and '12'; 1 of 1 cells differ")
    assert aside["r2"][:2] == ("drop", "no chart")
    assert aside["r3"][:2] == ("error", "DataError") and "rows[0] has 3 values and there are 2" in aside["r3"][2]


def test_a_model_that_would_agree_with_itself(tmp_path: Path) -> None:
    one, same = (writer_file(tmp_path, "http://127.0.0.1:9/v1", "m", file=name) for name in ("one", "same"))
    with pytest.raises(ConfigError, match=r"asks m what writer .* would agree with itself: name another model"):
        asyncio.run(chart_tables(Record({}, "r", ""), writer=one, second=same))
    other = writer_file(tmp_path, "http://127.0.0.1:9/v1", "m", file="other", temperature=0.7, seed=1)
    assert asyncio.run(chart_tables(Record({}, "r", ""), writer=one, second=other)) is None


def writer_file(folder: Path, url: str, model: str, file: str = "", **more: Any) -> str:
    path = folder / f"{file or model}.yaml"
    named = scorer(url, **more).model_copy(update={"model": model})
    config = WriterConfig(scorer=named, cache=str(folder / "written.sqlite"))
    path.write_text(dump_config(config))
    return str(path)
