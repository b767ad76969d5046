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


@pytest.mark.parametrize(
    ("base", "tuned", "told"),
    [
        ({"use_cache": True}, {"use_cache": False}, "use_cache is True in"),
        ({}, {"pad_token_id": 3}, "pad_token_id is 'absent' in"),
        ({"eos_token_id": 2}, {"eos_token_id": [2, 7]}, "eos_token_id is 2 in"),
        ({"attention_dropout": 0.0}, {"attention_dropout": 0.1}, "attention_dropout is 0.0 in"),
        ({}, {"gradient_checkpointing": True}, "gradient_checkpointing is 'absent' in"),
        ({}, {"unsloth_fixed": True}, "unsloth_fixed is 'absent' in"),
        ({}, {"auto_map": {"AutoModel": "m.M"}}, "auto_map.AutoModel is 'absent' in"),
        ({"text_config": {"use_cache": True}}, {"text_config": {"use_cache": False}}, "text_config.use_cache is True"),
        ({"max_position_embeddings": 8}, {"max_position_embeddings": 9}, "max_position_embeddings is 8 in"),
        ({}, {"auto_map": {}}, None),
        ({}, {"quantization_config": None}, None),
        ({"_name_or_path": "a", "dtype": "float32"}, {"torch_dtype": "bfloat16"}, None),
    ],
)
def test_a_base_and_its_fine_tune_are_alike(tmp_path: Path, base: dict, tuned: dict, told: str | None) -> None:
    """What the forward pass does not read is told, and the first folder's is taken."""
    one, other = folder(tmp_path / "one", []), folder(tmp_path / "other", [])
    for place, settings in ((one, base), (other, tuned)):
        (place / "config.json").write_text(json.dumps({"hidden_size": 4} | settings))
    found = _compare_folders([one, other], _json)
    assert len(found) == (told is not None)
    assert told is None or (told in found[0] and found[0].endswith("the first is taken")), found


@pytest.mark.parametrize(
    ("base", "tuned", "key"),
    [
        ({"rope_theta": 1e4}, {"rope_theta": 1e6, "use_cache": False}, "rope_theta is 10000.0 in"),
        ({"quantization_config": None}, {"quantization_config": {"bits": 4}}, "quantization_config.bits is 'absent'"),
        (
            {"max_position_embeddings": 8, "rope_scaling": {"rope_type": "dynamic"}},
            {"max_position_embeddings": 9, "rope_scaling": {"rope_type": "dynamic"}},
            "max_position_embeddings is 8",
        ),
    ],
)
def test_what_shapes_the_forward_pass_is_not(tmp_path: Path, base: dict, tuned: dict, key: str) -> None:
    one, other = folder(tmp_path / "one", []), folder(tmp_path / "other", [])
    for place, settings in ((one, base), (other, tuned)):
        (place / "config.json").write_text(json.dumps(settings))
    with pytest.raises(DataError, match=f"{key}.*no mean of the two"):
        _compare_folders([one, other], _json)


def test_configurations_are_read_by_who_knows_them(tmp_path: Path) -> None:
    one, other = folder(tmp_path / "one", []), folder(tmp_path / "other", [])
    (one / "config.json").write_text('{"layers": 2, "rope_theta": 10000.0}')
    (other / "config.json").write_text('{"layers": 2}')
    with pytest.raises(DataError, match="rope_theta"):
        _compare_folders([one, other], _json)
    assert _compare_folders([one, other], lambda path: {"rope": 10000.0}) == []
