"""Answers to held-out prompts: pictures of a portion of a set at a time, whatever the set's size."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pangu_rl.data.encoding import Encoder
from pangu_rl.data.pictures import PictureFolder
from pangu_rl.loops import evaluate
from pangu_rl.loops.evaluate import answers, greedy
from pangu_rl.loops.pictures import RowLoader
from pangu_rl.records import Completion, FinishReason, Outcome, Part, Prompt, RolloutRequest, Score
from tests.unit.data.vl_folder import build_vl_folder, draw

QUESTION = ({"role": "user", "content": "Which colour?"},)
PATCHES = 24
"""Of a picture of 56 x 84 pixels in patches of 14 x 14."""


class Pixels:
    """What Ray's store holds: it is there as long as somebody has the handle."""

    def __init__(self, patches: np.ndarray) -> None:
        self.patches = patches


class Store:
    """Ray's, which counts the patches that it holds."""

    def __init__(self) -> None:
        self.held = self.most = 0

    def put(self, patches: np.ndarray) -> Pixels:
        self._change(len(patches))
        pixels = Pixels(patches)
        weakref.finalize(pixels, self._change, -len(patches))
        return pixels

    def _change(self, patches: int) -> None:
        self.held += patches
        self.most = max(self.most, self.held)


class SaysRed:
    """Engines that answer at once; the batches that they were asked for together."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def generate(self, requests: list[RolloutRequest]) -> Iterator[Completion]:
        self.batches.append(len(requests))
        for request in requests:
            yield Completion(
                uid=request.uid,
                group=request.group,
                prompt_uid=request.prompt_uid,
                token_ids=(),
                logprobs=(),
                text="red",
                finish_reason=FinishReason.STOP,
                weight_versions=(),
            )


class AllAtTheEnd:
    """A reward service that is slower than the engines."""

    def __init__(self) -> None:
        self.scores: dict[str, Score] = {}
        self.collected = 0

    def submit(self, prompt: Prompt, completion: Completion) -> None:
        outcome = Outcome.CORRECT if completion.text == prompt.answer else Outcome.INCORRECT
        part = Part(value=float(outcome is Outcome.CORRECT), outcome=outcome)
        self.scores[completion.uid] = Score(completion_uid=completion.uid, reward=part.value, parts={"colour": part})

    def finished(self) -> dict[str, Score]:
        return {}

    def collect(self, earlier: dict[str, Score]) -> dict[str, Score]:
        self.collected += 1
        return earlier | self.scores


@pytest.fixture
def prompts(tmp_path: Path) -> list[Prompt]:
    """Twelve rows: ten with a picture of their own, one with two, one with none."""
    for number in range(12):
        draw(tmp_path / f"{number}.png", 56, 84, seed=number)
    shown = [*((f"{number}.png",) for number in range(10)), ("10.png", "11.png"), ()]
    answer = ["red"] * 11 + ["blue"]
    return [
        Prompt(uid=str(row), messages=QUESTION, answer=answer[row], images=images) for row, images in enumerate(shown)
    ]


def loader(folder: Path, prompts: list[Prompt], store: Store) -> RowLoader:
    encoder = Encoder(build_vl_folder(folder / "vl"))
    media = PictureFolder(str(folder), encoder.template.model_path, encoder.family)
    return RowLoader(encoder, media, media.audit(prompts).digests, store.put)


def test_pictures_of_a_portion_are_held_and_no_more(
    prompts: list[Prompt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three pictures fit: rows 0 to 2, 3 to 5, 6 to 8, 9 with the two of 10, and the one without goes with them."""
    monkeypatch.setattr(evaluate, "HELD_PATCHES", 3 * PATCHES)
    store, pool, rewards = Store(), SaysRed(), AllAtTheEnd()
    answered = answers(
        prompts, loader=loader(tmp_path, prompts, store), pool=pool, rewards=rewards, sampling=greedy(8)
    )  # fmt: skip
    assert (store.most, store.held, pool.batches) == (3 * PATCHES, 0, [3, 3, 3, 3])
    assert [one.prompt.uid for one in answered] == [prompt.uid for prompt in prompts]
    assert [one.part.outcome for one in answered] == [Outcome.CORRECT] * 11 + [Outcome.INCORRECT]
    assert rewards.collected == 1, "the share of rows without a verdict is that of the set"


def test_a_portion_counts_a_picture_once_and_a_row_that_is_too_large_is_one(
    prompts: list[Prompt], tmp_path: Path
) -> None:
    rows = loader(tmp_path, prompts, Store())
    same = [Prompt(uid=f"same{n}", messages=QUESTION, answer="red", images=("0.png",)) for n in range(5)]
    portions = rows.portions([*same, prompts[1], prompts[10], prompts[11]], most=PATCHES)
    assert [[prompt.uid for prompt in portion] for portion in portions] == [
        [f"same{n}" for n in range(5)], ["1"], ["10"], ["11"],
    ]  # fmt: skip
