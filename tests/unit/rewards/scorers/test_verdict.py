"""Only a verdict is one."""

from __future__ import annotations

import jsonschema
import pytest

from rewards.scorers.verdict import BadReply, parse_verdict, reply_schema


def test_a_verdict() -> None:
    found = parse_verdict(' {"reason": "两者相同", "score": 5}\n')
    assert (found.score, found.reason) == (5, "两者相同")


BABBLE = [
    "",
    "  \n",
    '{"reason": "fine", "sco',
    '{"reason": "fine", "score": 0}',
    '{"reason": "fine", "score": 6}',
    '{"reason": "fine", "score": -3}',
    '{"reason": "fine", "score": 10}',
    '{"reason": "fine", "score": 4.5}',
    '{"reason": "fine", "score": "4"}',
    '{"reason": "fine", "score": true}',
    '{"reason": "fine", "score": null}',
    '{"reason": "fine", "score": NaN}',
    '{"reason": "fine", "score": 1e999}',
    '{"score": 4}',
    '{"reason": null, "score": 4}',
    '{"reason": "fine", "score": 4, "verdict": "correct"}',
    '{"理由": "好", "分数": 5}',
    '[{"reason": "fine", "score": 4}]',
    '{"reason": "fine", "score": 4} {"reason": "fine", "score": 5}',
    '```json\n{"reason": "fine", "score": 4}\n```',
    "I'm sorry, but I can't help with that.",
    "我认为这个回答很好，给五分。",
    "5",
    '{"reason": "\\ud800", "score": 4}',
]


@pytest.mark.parametrize("text", BABBLE)
def test_babble_is_no_verdict_and_the_complaint_is_one_line(text: str) -> None:
    with pytest.raises(BadReply) as caught:
        parse_verdict(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


@pytest.mark.parametrize("text", BABBLE[2:7] + BABBLE[13:16])
def test_the_schema_forbids_what_the_parser_refuses(text: str) -> None:
    import json

    try:
        reply = json.loads(text)
    except ValueError:
        return
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(reply, reply_schema(300))


def test_the_bound_of_the_reason_can_be_left_out() -> None:
    jsonschema.validate({"reason": "r" * 301, "score": 4}, reply_schema(None))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"reason": "r" * 301, "score": 4}, reply_schema(300))
