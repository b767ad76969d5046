"""How held-out rows are asked, by category and answer type."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pangu_rl.config.load import load_config
from pangu_rl.config.sections.question_prompts import QuestionPromptsConfig
from pangu_rl.data.question_prompts import asked
from pangu_rl.errors import ConfigError
from pangu_rl.records import Prompt
from tests.contracts.source_tree import ROOT

SHIPPED = ROOT / "configs" / "prompts" / "openpangu_vl.yaml"


@pytest.fixture(scope="module")
def shipped() -> QuestionPromptsConfig:
    return load_config(QuestionPromptsConfig, SHIPPED)


def prompt(content: object, source: str = "stem", answer_type: str = "integer") -> Prompt:
    messages = ({"role": "system", "content": "Box it."}, {"role": "user", "content": content})
    return Prompt(uid="p", messages=messages, answer="7", answer_type=answer_type, source=source)


def text(prompt: Prompt) -> str:
    return prompt.messages[-1]["content"]


def test_the_shipped_prompts_are_the_papers(shipped: QuestionPromptsConfig) -> None:
    """Appendix B of the report, word for word."""
    assert text(asked(prompt("How many?"), shipped)) == (
        "Please answer the question requiring an integer answer, please analyze and solve this problem step by step, "
        "and provide the final value, e.g., 1, 2, 3, within \\boxed{} at the end.\nQuestion: How many?\nSolution:"
    )
    for source, answer_type, expected in (
        (
            "stem",
            "text",
            "Q\nPlease analyze and solve this problem step by step, and put your final answer within \\boxed{}.",
        ),
        ("vqa", "choice", "Question: Q\nPlease select the correct answer from the options above."),
        ("ocr", "text", "Q"),
        ("document", "text", "Q\nAnswer the question using a single word or phrase."),
        ("chart", "float1", "Q Please answer the question directly."),
        ("referring", "bbox", "Please provide the bounding box coordinate of the region this sentence describes: Q"),
        ("detection", "bboxes", "Detect all Q in the image."),
        ("counting_by_name", "integer", "How many Q are there in the image? Point to them and output the total count."),
    ):
        assert text(asked(prompt("Q", source, answer_type), shipped)) == expected


def test_what_the_table_does_not_name_is_asked_as_it_stands(shipped: QuestionPromptsConfig) -> None:
    for row in (prompt("Q", source="caption"), prompt("Q", source="vqa", answer_type="integer")):
        assert asked(row, shipped) is row


def test_pictures_stay_where_they_are(shipped: QuestionPromptsConfig) -> None:
    parts = [
        {"type": "image"},
        {"type": "text", "text": "A{question}"},
        {"type": "image"},
        {"type": "text", "text": "B"},
    ]
    row = prompt(parts, source="document", answer_type="text")
    found = asked(row, shipped)
    assert [part["type"] for part in found.messages[-1]["content"]] == ["image", "text", "image", "text"]
    assert found.messages[-1]["content"][1]["text"] == "A{question}"
    assert found.messages[-1]["content"][3]["text"] == "B\nAnswer the question using a single word or phrase."
    assert row.messages[-1]["content"] is parts and parts[3]["text"] == "B"
    assert found.messages[0] == row.messages[0] and found.uid == row.uid


@pytest.mark.parametrize(
    ("categories", "complaint"),
    [
        ({}, "categories"),
        ({"stem": {}}, "stem"),
        ({"stem": {"any": "no place"}}, r"\{question\} 0 times"),
        ({"stem": {"any": "{question} {question}"}}, r"\{question\} 2 times"),
        ({"stem": "{question}"}, "stem"),
    ],
)
def test_a_table_that_asks_nothing_is_refused(tmp_path: Path, categories: object, complaint: str) -> None:
    path = tmp_path / "prompts.yaml"
    path.write_text(yaml.safe_dump({"categories": categories}))
    with pytest.raises(ConfigError, match=complaint):
        load_config(QuestionPromptsConfig, path)
