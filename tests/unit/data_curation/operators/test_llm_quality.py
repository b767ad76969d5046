"""Scores of an endpoint: low ones are put aside, a row without a verdict is an error, and a second run asks nothing."""

from __future__ import annotations

from pathlib import Path

from data_curation.pipeline.run import run_pipeline
from pangu_rl.config.load import dump_config
from tests.unit.data_curation.pipeline.builders import contents, lines_of, pipeline, write_jsonl
from tests.unit.rewards.scorers.endpoint import Answer, panel_config, scorer, serving, user_text, verdict


def test_rows_are_scored_by_an_endpoint(tmp_path: Path) -> None:
    def answer(body: dict) -> Answer:
        text = user_text(body)
        return Answer(status=400) if "broken" in text else verdict(2 if "buy now" in text else 4, "as it is")

    rows = [
        {"id": name, "document": f"A {name} text about the sea."} for name in ("fine", "buy now", "broken", "other")
    ]
    source, panel = write_jsonl(tmp_path / "in.jsonl", rows), tmp_path / "scorers.yaml"
    with serving(answer) as endpoint:
        config = panel_config(tmp_path / "cache", scorer(endpoint.url), criteria=("text_quality",))
        panel.write_text(dump_config(config))
        quality = {"name": "llm_quality", "args": {"scorers": str(panel), "least": 3}}
        run_pipeline(pipeline(source, tmp_path / "one", [quality], max_error_rate=0.5))
        asked = len(endpoint.bodies)
        run_pipeline(pipeline(source, tmp_path / "other", [quality], max_error_rate=0.5))
        assert len(endpoint.bodies) < 2 * asked
    kept = lines_of(tmp_path / "one/rows")
    assert [(row["id"], row["curation"]["llm_quality"]["score"]) for row in kept] == [("fine", 4.0), ("other", 4.0)]
    aside = {line["id"]: line for line in lines_of(tmp_path / "one/dropped")}
    assert (aside["buy now"]["kind"], aside["buy now"]["reason"]) == ("drop", "low score")
    assert (aside["broken"]["kind"], aside["broken"]["reason"]) == ("error", "DataError")
    assert "no reply" in aside["broken"]["detail"]
    assert contents(tmp_path / "one") == contents(tmp_path / "other")
