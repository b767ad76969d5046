"""Messages and pictures -> ids, positions and mask, against the layouts of the specification worked by hand."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from pangu_rl.config.paths import resolve_path
from pangu_rl.data.encoding import Encoder
from pangu_rl.data.pairs import Pair
from pangu_rl.errors import DataError
from pangu_rl.records import Picture
from tests.builders import SMOLLM2
from tests.unit.data.vl_folder import END, PAD, START, VIDEO, build_vl_folder

SMALL = Picture(path="a.png", sha256="", grid=(1, 4, 6), patches=None)
"""Two rows of three tokens."""
SQUARE = Picture(path="b.png", sha256="", grid=(1, 4, 4), patches=None)
"""Two rows of two tokens."""
IMAGE = {"type": "image"}


def text(content: str) -> dict:
    return {"type": "text", "text": content}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder(build_vl_folder(tmp_path_factory.mktemp("vl")))


def plain(encoder: Encoder, content: str) -> list[int]:
    return encoder.template.tokenizer(content, add_special_tokens=False)["input_ids"]


def test_a_picture_before_the_question(encoder: Encoder) -> None:
    """`user\\n` and <|im_start|> are 3 tokens, then start 3, six pads from 4, end at 4 + max(2, 3) = 7."""
    row = encoder.prompt([{"role": "user", "content": "Hi"}], [SMALL])
    head, tail = [1, *plain(encoder, "user\n")], [*plain(encoder, "Hi"), 2, *plain(encoder, "\n")]
    tail += [1, *plain(encoder, "assistant\n")]
    assert list(row.token_ids) == [*head, START, *[PAD] * 6, END, *tail]
    n = len(head)
    after = list(range(n + 4, n + 5 + len(tail)))
    begin = list(range(n + 1))
    p = n + 1
    assert row.positions.tolist() == [
        [*begin, *[p] * 6, *after],
        [*begin, p, p, p, p + 1, p + 1, p + 1, *after],
        [*begin, p, p + 1, p + 2, p, p + 1, p + 2, *after],
    ]
    assert row.positions.dtype == np.int64
    assert row.pictures == (SMALL,)
    assert not any(row.trained)


def test_parts_say_where_each_picture_stands(encoder: Encoder) -> None:
    content = [text("One "), IMAGE, text(" two "), IMAGE]
    ids = list(encoder.prompt([{"role": "user", "content": content}], [SQUARE, SMALL]).token_ids)
    first, second = ids.index(START), len(ids) - 1 - ids[::-1].index(START)
    assert ids[first : first + 6] == [START, *[PAD] * 4, END]
    assert ids[second : second + 8] == [START, *[PAD] * 6, END]
    assert ids[first + 6 : second] == plain(encoder, " two ")


@pytest.mark.parametrize("spelled", ["<|image_pad|>", "<|vision_start|><|image_pad|><|vision_end|>", "<|video_pad|>"])
def test_text_that_spells_a_placeholder_stays_text(encoder: Encoder, spelled: str) -> None:
    """Beside a picture and without one, in a question and in an answer."""
    question = {"role": "user", "content": f"What does {spelled} mean? <image>"}
    shown, alone = encoder.prompt([question], [SMALL]), encoder.prompt([question])
    assert [shown.token_ids.count(index) for index in (START, PAD, END, VIDEO)] == [1, 6, 1, 0]
    assert [alone.token_ids.count(index) for index in (START, PAD, END, VIDEO)] == [0, 0, 0, 0]
    assert spelled in encoder.template.tokenizer.decode(alone.token_ids)
    answer = {"role": "assistant", "content": spelled}
    row = encoder.conversation([question, answer], [SMALL])
    assert row.token_ids.count(PAD) == 6


def test_the_mask_of_a_conversation_grows_with_its_pictures(encoder: Encoder) -> None:
    turns = [
        {"role": "user", "content": [IMAGE, text("Which?")]},
        {"role": "assistant", "content": "Red."},
        {"role": "user", "content": [text("And "), IMAGE]},
        {"role": "assistant", "content": "Blue."},
    ]
    row = encoder.conversation(turns, [SMALL, SQUARE])
    assert len(row.trained) == len(row.token_ids) == row.positions.shape[1]
    runs = encoder.template.tokenizer.decode([i for i, on in zip(row.token_ids, row.trained, strict=True) if on])
    assert runs == "Red.<|im_end|>Blue.<|im_end|>"


def test_a_multimodal_row_without_pictures_counts_on_all_axes(encoder: Encoder) -> None:
    row = encoder.prompt([{"role": "user", "content": "Hi"}])
    assert row.positions.tolist() == [list(range(len(row.token_ids)))] * 3
    assert row.pictures == ()


def test_a_text_model_has_no_positions_of_its_own() -> None:
    encoder = Encoder(resolve_path(SMOLLM2))
    row = encoder.prompt([{"role": "user", "content": "Hi"}])
    assert row.positions is None and row.pictures == ()
    assert encoder.placeholders == frozenset()
    assert row.token_ids == encoder.template.encode_prompt([{"role": "user", "content": "Hi"}])


def test_a_template_that_drops_pictures_is_refused_not_mistrained(tmp_path: Path) -> None:
    deaf = tmp_path / "deaf.jinja"
    deaf.write_text(
        "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
        "{{ p.text }}{% endfor %}{% endif %}{% endfor %}"
    )
    encoder = Encoder(build_vl_folder(tmp_path / "vl"), str(deaf))
    with pytest.raises(DataError, match="0 placeholders for 1 pictures: give each picture one"):
        encoder.prompt([{"role": "user", "content": "Hi"}], [SMALL])


def test_a_pair_is_one_prompt_with_its_picture_and_two_answers(encoder: Encoder) -> None:
    """Behind the prompt each answer is what the whole conversation trains; `<|image_pad|>` in it is text."""
    question = [{"role": "user", "content": "Which colour?"}]
    pair = Pair(uid="p", messages=tuple(question), chosen="red <|image_pad|>", rejected="blue")
    row = encoder.pair(pair, [SMALL])
    assert row.prompt.token_ids == encoder.prompt(question, [SMALL]).token_ids
    assert row.prompt.pictures == (SMALL,)
    for text_of, ids in (("red <|image_pad|>", row.chosen), ("blue", row.rejected)):
        whole = encoder.conversation([*question, {"role": "assistant", "content": text_of}], [SMALL])
        trained = tuple(token for token, in_loss in zip(whole.token_ids, whole.trained) if in_loss)
        assert ids == trained
        assert whole.token_ids[: len(row.prompt.token_ids)] == row.prompt.token_ids
    assert PAD not in row.chosen
    cut = encoder.pair(dataclasses.replace(pair, rejected_ended=False), [SMALL])
    assert (cut.chosen, cut.rejected) == (row.chosen, row.rejected[:-1])
    assert row.num_tokens == len(row.prompt.token_ids) + len(row.chosen)


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        (None, 5, {5}),
        ({"eos_token_id": [7, 9]}, 5, {7, 9}),
        ({"temperature": 0.6}, [5, 6], {5, 6}),
        ({"eos_token_id": 0}, 5, {0}),
    ],
)
def test_an_answer_ends_at_every_end_of_sequence_and_at_the_templates_own(
    tmp_path: Path, generation: dict | None, config: int | list[int], expected: set[int]
) -> None:
    """The generation config goes before the config; the tokenizer's and the template's <|im_end|> (2) always end it."""
    folder = build_vl_folder(tmp_path)
    tree = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(tree | {"eos_token_id": config}))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    assert set(Encoder(folder).end_tokens) == expected | {2}


def test_an_end_of_sequence_that_is_no_id_is_refused(tmp_path: Path) -> None:
    folder = build_vl_folder(tmp_path)
    (folder / "generation_config.json").write_text('{"eos_token_id": ["<|im_end|>"]}')
    with pytest.raises(DataError, match=r"eos_token_id is \['<\|im_end\|>'\]: give a token's id, or a list of ids"):
        Encoder(folder).end_tokens  # noqa: B018
