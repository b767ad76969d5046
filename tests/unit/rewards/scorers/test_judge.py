"""Answers that rules cannot read are read by a judge, which sees no gold, and whose reading the same rules score."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import validate

from pangu_rl.config.load import dump_config
from pangu_rl.config.sections.scorers import JudgeConfig
from pangu_rl.records import Extraction, Outcome, Part, Prompt
from rewards.scorers.judged_benchmark import judged_benchmark
from tests.unit.rewards.builders import completion
from tests.unit.rewards.scorers.endpoint import Answer, Endpoint, scorer, serving, user_text


def read(answer: str) -> Answer:
    return Answer(json.dumps({"answer": answer}))


def question(metric: str = "choice", answer: str = "B", *, judged: bool = True, **extra: Any) -> Prompt:
    extra = {"choices": ["a red kite", "a blue kite"], "answers": [answer]} | extra
    messages = ({"role": "user", "content": "Which kite flies? SECRETGOLD is no part of it."},)
    return Prompt(
        uid="q", messages=messages, answer=answer, answer_type="integer", opened="<think>\n",
        extra={"scored_by": metric, "judged": judged, **extra},
    )  # fmt: skip


def judge(folder: Path, endpoint: Endpoint, **settings: Any) -> str:
    path = folder / "judge.yaml"
    config = JudgeConfig(
        **({"scorer": scorer(endpoint.url), "cache": str(folder / "c"), "audit_share": 0.0} | settings)
    )
    path.write_text(dump_config(config))
    return str(path)


def scored(prompt: Prompt, text: str, config: str) -> Part:
    return asyncio.run(judged_benchmark(prompt, completion(f"hm</think>{text}"), config=config))


def test_a_choice_in_other_words(tmp_path: Path) -> None:
    with serving(lambda body: read("B")) as endpoint:
        part = scored(question(), "The azure one is in the air.", judge(tmp_path, endpoint))
        (body,) = endpoint.bodies
    assert (part.value, part.outcome) == (1.0, Outcome.CORRECT)
    assert part.extraction == Extraction(judge="judge", answer="B")
    schema = body["response_format"]["json_schema"]["schema"]
    validate({"answer": "none"}, schema)
    assert schema["properties"]["answer"]["enum"] == ["A", "B", "none"]


def test_the_judge_sees_question_and_answer_but_neither_gold_nor_thinking(tmp_path: Path) -> None:
    with serving(lambda body: read("41")) as endpoint:
        part = scored(question("boxed", "1729"), "It is forty-one.", judge(tmp_path, endpoint))
        (body,) = endpoint.bodies
    assert "forty-one" in user_text(body) and "Which kite" in user_text(body)
    assert "1729" not in json.dumps(body) and "hm" not in user_text(body)
    assert (part.value, part.outcome, part.extraction.answer) == (0.0, Outcome.INCORRECT, "41")


@pytest.mark.parametrize(("reply", "value"), [("yes", 1.0), ("no", 0.0)])
def test_yes_and_no(tmp_path: Path, reply: str, value: float) -> None:
    with serving(lambda body: read(reply)) as endpoint:
        part = scored(question("yes_no", "yes"), "It certainly does.", judge(tmp_path, endpoint))
    assert part.value == value


def test_no_answer_stays_unread_and_wrong(tmp_path: Path) -> None:
    with serving(lambda body: read("none")) as endpoint:
        part = scored(question(), "I cannot tell.", judge(tmp_path, endpoint))
    assert (part.value, part.outcome) == (0.0, Outcome.UNPARSABLE)
    assert part.extraction == Extraction(judge="judge", answer=None)


def test_a_judge_that_is_down_or_babbles_is_no_verdict(tmp_path: Path) -> None:
    for name, answer in {"down": Answer("no", status=500), "babble": read("C"), "prose": Answer("B, I think")}.items():
        folder = tmp_path / name
        folder.mkdir()
        with serving(lambda body, answer=answer: answer) as endpoint:
            part = scored(question(), "The azure one.", judge(folder, endpoint))
        assert (part.value, part.outcome) == (None, Outcome.ERROR), name
        assert "scorer judge, extraction, sample" in part.detail


@pytest.mark.parametrize("text", ["\\boxed{B}", "", "   "])
def test_what_rules_read_and_what_is_empty_costs_nothing(tmp_path: Path, text: str) -> None:
    with serving(lambda body: read("A")) as endpoint:
        part = scored(question(), text, judge(tmp_path, endpoint))
        assert endpoint.bodies == [] and part.extraction is None
    assert part.value == float(bool(text.strip()))


def test_a_benchmark_that_is_not_judged_never_asks(tmp_path: Path) -> None:
    with serving(lambda body: read("B")) as endpoint:
        part = scored(question(judged=False), "The azure one.", judge(tmp_path, endpoint))
        assert endpoint.bodies == []
    assert part.outcome is Outcome.UNPARSABLE


@pytest.mark.parametrize(("reply", "agrees"), [("B", True), ("A", False), ("none", False)])
def test_an_audit_compares_and_changes_nothing(tmp_path: Path, reply: str, agrees: bool) -> None:
    with serving(lambda body: read(reply)) as endpoint:
        part = scored(question(), "\\boxed{B}", judge(tmp_path, endpoint, audit_share=1.0))
    assert (part.value, part.outcome) == (1.0, Outcome.CORRECT)
    assert part.extraction.agrees is agrees


def test_an_audit_that_fails_costs_no_verdict(tmp_path: Path) -> None:
    with serving(lambda body: Answer("no", status=500)) as endpoint:
        part = scored(question(), "\\boxed{B}", judge(tmp_path, endpoint, audit_share=1.0))
    assert (part.value, part.extraction) == (1.0, None)


def test_equal_answers_are_read_once(tmp_path: Path) -> None:
    with serving(lambda body: read("B")) as endpoint:
        config = judge(tmp_path, endpoint)
        for _ in range(3):
            scored(question(), "The azure one.", config)
        assert len(endpoint.bodies) == 1
