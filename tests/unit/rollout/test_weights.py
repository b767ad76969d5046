"""Names both ways, digests by tensor, and a model folder that cannot be used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pangu_rl.errors import DataError, WeightSyncError
from pangu_rl.records import WeightManifest, WeightTensor
from rollout.weights import Required, check_digests, check_names, required_names


def manifest(**digests: str) -> WeightManifest:
    tensors = [WeightTensor(name=n, shape=(1,), dtype="bfloat16", offset=0, digest=d) for n, d in digests.items()]
    return WeightManifest(version=7, tensors=tuple(tensors), transport="shm", location="unused")


def write_model(folder: Path, names: list[str], tied: bool) -> None:
    (folder / "config.json").write_text(json.dumps({"tie_word_embeddings": tied}))
    shards = {name: f"model-{number}.safetensors" for number, name in enumerate(names)}
    for name, shard in shards.items():
        save_file({name: np.zeros(1, np.float32)}, folder / shard)
    if shards:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))


@pytest.mark.parametrize(
    ("tied", "expected"), [(True, {"embed.weight"}), (False, {"embed.weight", "lm_head.weight"})], ids=["tied", "own"]
)
def test_required_names_come_from_all_shards_and_know_tied_heads(tmp_path, tied, expected):
    write_model(tmp_path, ["embed.weight", "lm_head.weight"], tied)
    assert required_names(tmp_path).names == expected


def test_both_styles_of_multimodal_names_are_the_learner_s(tmp_path):
    write_model(tmp_path, ["model.visual.merger.w", "model.language_model.norm.w", "lm_head.weight"], tied=False)
    assert "model.visual.merger.w" in required_names(tmp_path).names
    tokens = {"image_token_id": 1, "video_token_id": 2, "vision_start_token_id": 3, "vision_end_token_id": 4}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "openpangu_vl", **tokens}))
    assert required_names(tmp_path).names == {"visual.merger.w", "model.norm.w", "lm_head.weight"}


def test_released_names_of_qwen2_vl_are_the_learner_s(tmp_path):
    write_model(tmp_path, ["visual.merger.w", "model.norm.w", "lm_head.weight"], tied=False)
    config = {"model_type": "qwen2_5_vl", "image_token_id": 1, "vision_config": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert required_names(tmp_path).names == {"model.visual.merger.w", "model.language_model.norm.w", "lm_head.weight"}


def test_an_adapter_has_both_sides_of_every_layer_and_no_more():
    required, named = Required(frozenset({"w"}), str), {"target_modules": ["model.layers.0.mlp.up_proj"]}
    up = "base_model.model.model.layers.0.mlp.up_proj.lora_{}.weight"
    whole = replace(manifest(**{up.format("A"): "1", up.format("B"): "2"}), adapter=named)
    check_names(whole, required)
    for wrong in (manifest(**{up.format("A"): "1"}), manifest(**{up.format(side): "1" for side in "ABC"})):
        with pytest.raises(WeightSyncError, match=r"lora_[BC].weight published or named .* of 1 layers, and not both"):
            check_names(replace(wrong, adapter=named), required)


def test_folder_without_config_or_weights_or_with_half_a_file(tmp_path):
    with pytest.raises(DataError, match=r"no config\.json in it"):
        required_names(tmp_path)
    write_model(tmp_path, [], tied=True)
    with pytest.raises(DataError, match=r"no weights, the folder has no \.safetensors"):
        required_names(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x08\x00\x00")
    with pytest.raises(DataError, match=r"model\.safetensors: not a whole safetensors file"):
        required_names(tmp_path)


def required(names: set[str]) -> Required:
    return Required(frozenset(names), one_name=lambda name: name.removeprefix("old."))


def test_names_are_checked_both_ways():
    check_names(manifest(a="0", b="0"), required({"a", "b"}))
    check_names(manifest(**{"old.a": "0", "b": "0"}), required({"a", "b"}))
    with pytest.raises(WeightSyncError, match=r"version 7: b, c missing from the 1 tensors published"):
        check_names(manifest(a="0"), required({"a", "b", "c"}))
    with pytest.raises(WeightSyncError, match=r"version 7: b published, but the engine's model has no such tensor"):
        check_names(manifest(a="0", b="0"), required({"a"}))


def test_digests_name_the_tensor_and_both_values():
    check_digests(manifest(a="11", b="22"), {"a": "11", "b": "22"})
    with pytest.raises(WeightSyncError, match=r"tensor b has digest 22 at the learner and 33 at the engine$"):
        check_digests(manifest(a="11", b="22"), {"a": "11", "b": "33"})
    with pytest.raises(WeightSyncError, match=r"tensor a .* never consumed at the engine \(and 1 more\)"):
        check_digests(manifest(a="11", b="22"), {})
