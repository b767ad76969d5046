"""Configurations: released flat files, any backbone, sections of the rotary embedding, what is refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, LlamaConfig, Qwen3Config

from pangu_rl.errors import ConfigError
from pretrain.auto import register_auto_classes
from pretrain.models.configuration import MindVLConfig, PanguVisionConfig, PanguVLConfig, vision_tokens
from pretrain.models.pangu_vl import PanguVLForConditionalGeneration
from pretrain.models.positions import VisionTokens
from tests.contracts.source_tree import ROOT
from tests.unit.pretrain.models.tiny import LLAMA, TOKENS, VISION, config

RELEASED = ROOT / "configs/models/openpangu_vl_7b/config.json"


def released() -> dict[str, Any]:
    return json.loads(RELEASED.read_text(encoding="utf-8"))


def test_the_released_flat_file() -> None:
    flat = released() | {"auto_map": {"AutoConfig": "configuration_openpangu_vl.OpenPanguVLConfig"}}
    settings = PanguVLConfig(**flat)
    text, vision = settings.text_config, settings.vision_config
    assert isinstance(text, LlamaConfig)
    assert (text.hidden_size, text.num_hidden_layers, text.head_dim, text.vocab_size) == (4096, 34, 128, 153376)
    assert text.attention_bias
    assert not text.mlp_bias
    assert text.rope_parameters == {
        "rope_type": "default",
        "rope_theta": 64e6,
        "mrope_section": [10, 27, 27],
        "mrope_interleaved": True,
    }
    assert (vision.depth, vision.in_channels, list(vision.mm_unit_vision_select_layer)) == (26, 3, [-1, -3])
    assert vision_tokens(settings) == VisionTokens(image=46005, video=144208, start=45986, end=46007)
    assert not hasattr(settings, "auto_map")
    assert not hasattr(settings, "hidden_size")


def test_round_trip_through_a_file(tmp_path: Path) -> None:
    for settings in (PanguVLConfig(**released()), config(tied=True), MindVLConfig(vision_config={"depth": 2})):
        settings.save_pretrained(tmp_path)
        register_auto_classes()
        loaded = AutoConfig.from_pretrained(tmp_path)
        assert type(loaded) is type(settings)
        assert loaded.to_diff_dict() == settings.to_diff_dict()
        assert VisionTokens.from_config_dict(json.loads((tmp_path / "config.json").read_text())) == vision_tokens(
            loaded
        )


def test_no_warning_about_the_sections(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level(logging.WARNING):
        PanguVLConfig(**released()).save_pretrained(tmp_path)
        PanguVLConfig.from_pretrained(tmp_path)
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        (LLAMA, [2, 7, 7]),
        (LLAMA | {"head_dim": 16}, [2, 3, 3]),
        (LLAMA | {"model_type": "qwen3", "head_dim": 128}, [10, 27, 27]),
        (LLAMA | {"rope_parameters": {"rope_theta": 1e4, "mrope_section": [4, 6, 6]}}, [4, 6, 6]),
    ],
)
def test_sections_fit_the_heads_unless_given(text: dict[str, Any], sections: list[int]) -> None:
    rope = config(text=text).text_config.rope_parameters
    assert rope["mrope_section"] == sections
    assert rope.get("mrope_interleaved", False) == ("rope_parameters" not in text)


def test_the_callers_configuration_stays_as_it_was() -> None:
    text = LlamaConfig(**LLAMA)
    before = text.to_dict()
    given = dict(LLAMA, rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 7, 7]})
    config(text=text)
    config(text=given)
    assert text.to_dict() == before
    assert given["rope_parameters"]["mrope_section"] == [2, 7, 7]


def test_tied_embeddings_are_known_at_both_levels() -> None:
    for settings in (config(tied=True), config(text=LLAMA | {"tie_word_embeddings": True})):
        assert settings.tie_word_embeddings
        assert settings.text_config.tie_word_embeddings


def test_mindvl_has_qwens_tower_and_language_model() -> None:
    settings = MindVLConfig()
    vision = settings.vision_config
    assert isinstance(settings.text_config, Qwen3Config)
    assert (vision.depth, vision.hidden_act, vision.connector, vision.final_layernorm) == (32, "silu", "mlp", False)
    assert settings.text_config.rope_parameters["mrope_section"] == [16, 24, 24]
    assert not settings.text_config.rope_parameters["mrope_interleaved"]
    assert vision_tokens(MindVLConfig(position_scheme="sequential")).sequential


def test_vision_takes_the_released_name_of_the_channels() -> None:
    assert PanguVisionConfig(in_chans=1).in_channels == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": {"model_type": "no_such_model"}}, "'no_such_model'"),
        ({"text": {"model_type": "gpt2"}}, "gpt2: no rotary embedding"),
        ({"text": {"model_type": "gemma3_text"}}, "gemma3_text: no rotary embedding that all"),
        ({"position_scheme": "2d"}, "'2d': one of accumulative, sequential"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**fields)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LLAMA | {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "'linear'"),
        (LLAMA | {"model_type": "granite", "logits_scaling": 8.0}, "logits_scaling is 8.0"),
    ],
)
def test_backbones_that_do_more_than_we_compute(text: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PanguVLForConditionalGeneration(config(text=text))


def test_ids_of_the_tests_own_model() -> None:
    assert vision_tokens(config()) == TOKENS
    assert config().vision_config.depth == VISION["depth"]
