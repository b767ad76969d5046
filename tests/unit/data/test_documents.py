"""Documents: what a row may be, and what of it is trained."""

from __future__ import annotations

import pytest

from pangu_rl.data.documents import Place, is_document, parse_document
from pangu_rl.data.encoding import Encoder
from pangu_rl.data.fields.bad_row import BadRow
from pangu_rl.records import Picture
from tests.unit.data.vl_folder import END, PAD, START, build_vl_folder

IMAGE = {"type": "image"}


def test_a_text_with_pictures_before_it_or_between():
    row = {"document": "a cat", "images": ["a.png"], "source": "web"}
    assert is_document(row) and not is_document({"messages": []})
    assert parse_document(row, "u").parts == (Place.IMAGE, "a cat")
    mixed = {"document": ["one", IMAGE, {"type": "text", "text": "two"}, IMAGE], "images": ["a.png", "b.png"]}
    found = parse_document(mixed, "u")
    assert found.parts == ("one", Place.IMAGE, "two", Place.IMAGE)
    assert (found.uid, found.images, found.source) == ("u", ("a.png", "b.png"), "")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"document": 3}, "document is int, neither text nor a list"),
        ({"document": ["a", IMAGE]}, "images names 0 pictures and document has 1 image parts"),
        ({"document": ["a", {"type": "audio"}]}, r"document\[1\] is neither text nor"),
        ({"document": ["a", {"type": "video"}]}, "videos names 0 videos and document has 1 video parts"),
        ({"document": [IMAGE], "images": ["a.png"]}, "no text to learn"),
    ],
)
def test_what_is_no_document_says_why(row, message):
    with pytest.raises(BadRow, match=message):
        parse_document(row, "u")


def test_text_and_its_end_are_trained_and_pictures_are_not(tmp_path):
    encoder = Encoder(build_vl_folder(tmp_path / "model"))
    picture = Picture(path="a.png", sha256="", grid=(1, 4, 2), patches=None)
    row = encoder.document(("red <|image_pad|>", Place.IMAGE, " blue"), [picture])
    tokenizer = encoder.template.tokenizer
    first = tokenizer("red <|image_pad|>", split_special_tokens=True)["input_ids"]
    last = tokenizer(" blue")["input_ids"]
    assert list(row.token_ids) == [*first, START, PAD, PAD, END, *last, tokenizer.eos_token_id]
    assert PAD not in first
    assert list(row.trained) == [True] * len(first) + [False] * 4 + [True] * (len(last) + 1)
    assert row.positions.shape == (3, len(row.token_ids))
