"""A conversation with an engine: turns add up, a failure leaves it as it was, pictures are shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from pangu_rl.accelerators import get_accelerator
from pangu_rl.cli.chat import answers, printable
from pangu_rl.errors import DataError
from pangu_rl.loops.chat import Chat, open_chat
from pangu_rl.records import Completion, FinishReason, RolloutRequest, SamplingParams
from rollout.engine import EngineSpec


class Parrot:
    """Says how many tokens and pictures it was asked with."""

    def __init__(self, spec: EngineSpec) -> None:
        self.asked: list[RolloutRequest] = []

    def generate(self, requests: list[RolloutRequest]) -> Iterator[Completion]:
        [request] = requests
        self.asked.append(request)
        yield Completion(
            uid=request.uid,
            group=request.group,
            prompt_uid=request.prompt_uid,
            token_ids=(1,),
            logprobs=(0.0,),
            text=f"heard {len(request.pictures)} pictures",
            finish_reason=FinishReason.STOP,
            weight_versions=(0,),
        )


def opened(model: Path) -> Chat:
    return open_chat(model, get_accelerator("cpu"), SamplingParams(temperature=0.0, max_new_tokens=64), make=Parrot)


def test_turns_add_up_and_begin_anew(tiny_model: Path) -> None:
    """The second prompt has the first question, the answer and the second question."""
    talk = opened(tiny_model)
    assert list(answers(talk, iter(["What is 2 + 3?\n", "\n", "And 4?\n"]))) == ["heard 0 pictures"] * 2
    first, second = talk.engine.asked
    said = talk.encoder.template.tokenizer.decode(second.prompt_token_ids)
    assert said.index("What is 2 + 3?") < said.index("heard 0 pictures") < said.index("And 4?")
    assert list(answers(talk, iter(["/clear", "What is 2 + 3?"]))) == ["heard 0 pictures"]
    assert talk.engine.asked[2].prompt_token_ids == first.prompt_token_ids


def test_the_system_message_stands_before_every_question(tiny_model: Path) -> None:
    talk = opened(tiny_model)
    talk.system = "Answer with one word."
    assert list(answers(talk, iter(["Hi", "/clear", "Hi", "Sure?"]))) == ["heard 0 pictures"] * 3
    said = [talk.encoder.template.tokenizer.decode(one.prompt_token_ids) for one in talk.engine.asked]
    assert [text.count("Answer with one word.") for text in said] == [1, 1, 1]
    assert said[0] == said[1]


def test_what_fails_leaves_the_conversation_as_it_was(tiny_model: Path) -> None:
    talk = opened(tiny_model)
    talk.context = 40
    with pytest.raises(DataError, match="begin anew"):
        talk.ask("word " * 60)
    assert talk.messages == []
    talk.ask("a word")
    assert talk.engine.asked[0].sampling.max_new_tokens == 40 - len(talk.engine.asked[0].prompt_token_ids)


def test_pictures_are_shown_with_their_turn(tiny_vl_model: Path, tmp_path: Path) -> None:
    Image.new("RGB", (56, 56), "red").save(tmp_path / "red one.png")
    talk = opened(tiny_vl_model)
    lines = ["Hello", f"/picture '{tmp_path / 'red one.png'}'", "What colour?", "Sure?", "/quit", "unheard"]
    assert list(answers(talk, iter(lines))) == ["heard 0 pictures", "heard 1 pictures", "heard 1 pictures"]
    assert [len(request.pictures) for request in talk.engine.asked] == [0, 1, 1]


@pytest.mark.parametrize("name", ["My Cat.png", "Bob's.png", "'both' ends.png", "a  b#c.png"])
@pytest.mark.parametrize("typed", ["{}", '"{}"', "{} ", "escaped"])
def test_a_picture_is_named_by_the_rest_of_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, typed: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(b"")
    shown: list[tuple[Path, ...]] = []

    class Heard:
        def ask(self, text: str, pictures: tuple[Path, ...]) -> SimpleNamespace:
            shown.append(pictures)
            return SimpleNamespace(text=text)

    line = re.sub(r"([ '#])", r"\\\1", name) if typed == "escaped" else typed.format(name)
    assert list(answers(Heard(), iter([f"/picture {line}", "Hi"]))) == ["Hi"]  # type: ignore[arg-type]
    assert shown == [(Path(name),)]


def test_mistakes_are_answered_with_the_way_out(tiny_model: Path, tmp_path: Path) -> None:
    """A text model sees no pictures, and a command that is none is no message."""
    (tmp_path / "x.png").write_bytes(b"no picture")
    talk = opened(tiny_model)
    unknown, refused, answered = answers(talk, iter(["/help", f"/picture {tmp_path / 'x.png'}", "Hi", "Hi"]))
    assert unknown.startswith("/help is no command: /picture FILE")
    assert refused.startswith("error:")
    assert answered == "heard 0 pictures"


def test_a_hostile_answer_does_not_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\nc ") == "a�[2Jb\nc"
