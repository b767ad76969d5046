"""One run with what the exports must tell apart: pictures, grades, no verdicts, near-duplicates."""

from __future__ import annotations

from pathlib import Path

import pytest

from pangu_rl.records import FinishReason
from tests.unit.rollout.stored import Answer, Asked, draw_pictures, store_of

PARTS = (
    {"role": "system", "content": "Put the answer in a box."},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which colour is it?"}]},
)
STEPS = {
    1: [
        Asked(
            uid="1+1",
            answers=[
                Answer(text="so \\boxed{2}", tokens=4),
                Answer(text="so \\boxed{3}", correct=False),
                Answer(text="\\boxed{2", correct=None),
                Answer(text=" ", correct=False),
            ],
        ),
        Asked(
            uid="colour",
            messages=PARTS,
            gold="red",
            source="shapes",
            images=("red.png",),
            extra={"choices": ["red", "blue"], "image_size": [56, 56]},
            answers=[
                Answer(text="It is \\boxed{red}", tokens=9),
                Answer(text="It is \\boxed{blue}", correct=False, tokens=9, finish=FinishReason.LENGTH),
            ],
        ),
    ],
    2: [
        Asked(uid="1+1", answers=[Answer(text="well, \\boxed{2}"), Answer(text="\\boxed{2}")]),
        Asked(uid="2+2", gold="4", answers=[Answer(text="\\boxed{5}", correct=False)] * 2),
    ],
}
"""Pass rates over both steps: 1+1 3 of 5 verdicts, colour 1 of 2, 2+2 0 of 2."""


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_pictures(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, media: Path) -> Path:
    """Ten rollouts; tests only read them."""
    directory = tmp_path_factory.mktemp("runs") / "first"
    store_of(directory, STEPS, media)
    return directory
