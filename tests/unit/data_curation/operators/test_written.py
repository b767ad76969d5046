"""Models that write: what they are shown, what becomes of the row, and what is asked only once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from data_curation.operators.written._writer import PROMPTS, _read
from data_curation.operators.written.model_text import model_text
from data_curation.pipeline.record import Record
from data_curation.pipeline.run import run_pipeline
from pangu_rl.config.load import dump_config
from pangu_rl.config.sections.scorers import WriterConfig
from pangu_rl.errors import ConfigError, DataError
from tests.unit.data_curation.operators.pictures import saved, scene
from tests.unit.data_curation.pipeline.builders import lines_of, pipeline, write_jsonl
from tests.unit.rewards.scorers.endpoint import Answer, panel_config, scorer, serving, user_text, verdict


def writer_file(folder: Path, url: str) -> str:
    config = WriterConfig(scorer=scorer(url), cache=str(folder / "written.sqlite"))
    (folder / "writer.yaml").write_text(dump_config(config))
    return str(folder / "writer.yaml")


def reply(**said: Any) -> Answer:
    return Answer(json.dumps(said))


def test_from_captions_to_questions_to_answers_of_a_second_model(tmp_path: Path) -> None:
    """The writer captions two pictures, asks two questions on each, and as the second model answers that there is
    nothing where it is asked about the sky."""

    def answer(body: dict) -> Answer:
        system, text = body["messages"][0]["content"], user_text(body)
        if "frames of one clip, in the order of time. Describe" in system:
            assert body["messages"][1]["content"][0]["image_url"]["url"].startswith("data:image/")
            return reply(text=" A ball rolls. ")
        if "Ask three to six questions" in system:
            assert "A ball rolls." in text
            return reply(pairs=[{"question": f"What of the {one}?", "answer": "It rolls."} for one in ("ball", "sky")])
        if "Answer the question from the pictures" in system:
            assert "It rolls." not in text
            return reply(text="It rolls." if "ball" in text else "Nothing.")
        return verdict(5 if "Nothing" not in text else 1)

    rows = [{"id": name, "images": [saved(tmp_path, f"{name}.png", scene(seed))]} for seed, name in enumerate("ab")]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    with serving(answer) as endpoint:
        writer, panel = writer_file(tmp_path, endpoint.url), tmp_path / "scorers.yaml"
        panel.write_text(dump_config(panel_config(tmp_path / "cache", scorer(endpoint.url))))
        operators = [
            {
                "name": "model_text",
                "args": {"writer": writer, "prompt": "differential_caption", "ask": "What happens?"},
            },
            {"name": "model_questions", "args": {"writer": writer}},
            {"name": "consistent_answers", "args": {"writer": writer, "scorers": str(panel)}},
        ]
        run_pipeline(pipeline(source, tmp_path / "out", operators, media_root=str(tmp_path)))
        asked = len(endpoint.bodies)
        run_pipeline(pipeline(source, tmp_path / "again", operators, media_root=str(tmp_path)))
        assert len(endpoint.bodies) == asked
    kept = lines_of(tmp_path / "out/rows")
    assert [row["id"] for row in kept] == ["a/1", "b/1"] and kept[0]["images"] == ["a.png"]
    assert [turn["content"] for turn in kept[0]["messages"]] == ["What of the ball?", "It rolls."]
    assert kept[0]["curation"]["consistent_answers"] == {"consistency": 5.0}
    aside = lines_of(tmp_path / "out/dropped")
    assert {(line["id"], line["reason"]) for line in aside} == {(f"{one}/2", "inconsistent answer") for one in "ab"}


def test_what_is_written_takes_its_place_and_what_is_none_is_an_error(tmp_path: Path) -> None:
    said: list[Answer] = []
    record = Record(
        {"id": "a", "messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}, "a", ""
    )

    def run(record: Record, **settings: Any) -> Any:
        return asyncio.run(model_text(record, **settings))

    with serving(lambda body: said.pop(0)) as endpoint:
        writer = writer_file(tmp_path, endpoint.url)
        said.append(reply(text="Because."))
        made = run(record, writer=writer, prompt="refined_answer").row
        assert [turn["content"] for turn in made["messages"]] == ["Why?", "Because."]
        assert run(record, writer=writer, prompt="refined_answer", into="note").notes == {"text": "Because."}
        said += [reply(text="")] * 3
        with pytest.raises(DataError, match="no usable reply"):
            run(record, writer=writer, prompt="reasoning")
        with pytest.raises(DataError, match="prompt caption shows pictures, and the row has none"):
            run(record, writer=writer, prompt="caption")
        with pytest.raises(DataError, match="prompt refined_answer shows answer, and the row has none"):
            run(Record({"prompt": "Why?"}, "p", ""), writer=writer, prompt="refined_answer")
        with pytest.raises(ConfigError, match="prompt captions: there are answer, caption, "):
            run(record, writer=writer, prompt="captions")
        (tmp_path / "own.md").write_text("parts: answer\n\nTranslate.")
        with pytest.raises(ConfigError, match="its first line is 'parts: answer'"):
            run(record, writer=writer, prompt=str(tmp_path / "own.md"))


@pytest.mark.parametrize("name", sorted(file.stem for file in PROMPTS.glob("*.md")))
def test_a_shipped_prompt_says_what_it_sees_and_how_to_reply(name: str) -> None:
    prompt = _read(name)
    assert prompt.parts and "Reply with one JSON object: {" in prompt.text
