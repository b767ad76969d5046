"""The miniature's tokenizer has a token for each grounding tag, and its rows start at the mean of the others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from data_curation.sources import tiny_pangu_vl
from data_curation.sources.tiny_pangu_vl import VISION_TOKENS
from pangu_rl.records import GROUNDING_TAGS

VOCABULARY = 49152
"""Of SmolLM2."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pangu_vl.prepare(tmp_path_factory.mktemp("tiny") / "model")


def test_a_tag_is_one_token_that_decoding_keeps(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    answer = "<|object_ref_start|>cat<|object_ref_end|><|box_start|>(012,034),(250,999)<|box_end|>"
    ids = tokenizer(answer)["input_ids"]
    assert sum(index >= VOCABULARY for index in ids) == 4
    assert tokenizer.decode(ids, skip_special_tokens=True) == answer


def test_what_no_token_has_been_taught_yet_is_the_mean(folder: Path) -> None:
    """To bf16's eight bits."""
    rows = load_file(folder / "model.safetensors")["model.embed_tokens.weight"].float()
    assert rows.shape[0] == VOCABULARY + len(VISION_TOKENS) + len(GROUNDING_TAGS)
    mean = rows[:VOCABULARY].mean(0)
    assert torch.allclose(rows[VOCABULARY:], mean.expand(12, -1), rtol=2**-8, atol=1e-5)


def test_a_model_of_an_earlier_version_is_made_anew(folder: Path, tmp_path: Path, monkeypatch) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "model.safetensors").touch()
    (old / "tokenizer.json").write_text('{"added_tokens": [{"content": "<|vision_start|>"}]}')
    monkeypatch.setattr("data_curation.sources.folders.cache_root", lambda: tmp_path)
    tiny_pangu_vl.prepare(old)
    assert (old / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    made = (old / "model.safetensors").stat().st_mtime_ns
    tiny_pangu_vl.prepare(old)
    assert (old / "model.safetensors").stat().st_mtime_ns == made
