"""Two folders are alike by what their files mean, not by how they spell it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pangu_rl.checkpoint.alike import _compare_folders, _json
from pangu_rl.errors import DataError

VOCABULARY = {"a": 0, "b": 1, "ab": 2, "abb": 3}


def folder(place: Path, merges: list, vocabulary: dict | None = None, **more: object) -> Path:
    place.mkdir()
    model = {"type": "BPE", "vocab": vocabulary or VOCABULARY, "merges": merges}
    tree = {"version": "1.0", "added_tokens": [], "model": model, **more}
    (place / "tokenizer.json").write_text(json.dumps(tree))
    (place / "config.json").write_text("{}")
    return place


def test_tokenizers_in_other_spelling_are_equal(tmp_path: Path) -> None:
    """Merges as pairs or as text; a caller's truncation and padding; defaults that are written or not."""
    truncation = {"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
    padding = {
        "strategy": "BatchLongest",
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "a",
    }
    one = folder(tmp_path / "one", ["a b", "ab b"])
    other = folder(
        tmp_path / "other", [["a", "b"], ["ab", "b"]], truncation=truncation, padding=padding, normalizer=None
    )
    assert _compare_folders([one, other], _json) == []


def test_other_vocabularies_or_merges_are_not(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", ["a b", "ab b"])
    for name, merges, vocabulary in (
        ("merges", ["a b"], None),
        ("vocabulary", ["a b", "ab b"], {**VOCABULARY, "c": 4}),
    ):
        with pytest.raises(DataError, match="no mean of the two"):
            _compare_folders([one, folder(tmp_path / name, merges, vocabulary)], _json)


def test_configurations_are_read_by_who_knows_them(tmp_path: Path) -> None:
    one, other = folder(tmp_path / "one", []), folder(tmp_path / "other", [])
    (one / "config.json").write_text('{"layers": 2, "rope_theta": 10000.0}')
    (other / "config.json").write_text('{"layers": 2}')
    with pytest.raises(DataError, match="rope_theta"):
        _compare_folders([one, other], _json)
    assert _compare_folders([one, other], lambda path: {"rope": 10000.0}) == []
