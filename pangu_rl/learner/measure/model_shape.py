"""A model's sizes: `config.json` -> **one record, parameters by part** -> memory estimate.

Read as JSON, without torch or transformers, so that a machine that only submits jobs can estimate.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pangu_rl.checkpoint.model_folder import weight_files
from pangu_rl.config.sections.learner import ModelPart
from pangu_rl.errors import DataError

PIXELS = 3 * 2 * 14 * 14
"""Of a patch with both of its frames."""
PANGU_TOWER = {
    "depth": 26,
    "hidden_size": 1536,
    "num_heads": 16,
    "intermediate_size": 4608,
    "hidden_act": "gelu",
    "spatial_merge_size": 2,
    "mm_unit_vision_select_layer": (-1, -3),
    "out_hidden_size": 3584,
    "connector": "hierarchical",
    "final_layernorm": True,
}
"""What a `vision_config` leaves out; the defaults of `pretrain.models.configuration`."""
MINDVL_TOWER = PANGU_TOWER | {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3456,
    "hidden_act": "silu",
    "mm_unit_vision_select_layer": (-1,),
    "connector": "mlp",
    "final_layernorm": False,
}
TOWERS = {"openpangu_vl": PANGU_TOWER, "mindvl": MINDVL_TOWER}
COUNT_TOLERANCE = 0.01
"""Of the parameters that the shape explains against those in the weights: biases and norms of an unknown kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerShape:
    """A vision tower and its connector."""

    depth: int
    width: int
    heads: int
    inner: int
    gated: bool
    """Three matrices in the perceptron, as in Qwen2.5-VL."""
    cell: int
    """Patches that become one token."""
    mergers: int
    merged: int
    """Width of a merger's output."""
    projected: bool
    """A projection to the language model follows the mergers' sum."""
    final_norm: bool

    @property
    def encoder(self) -> int:
        """Parameters of the patch embedding and the blocks."""
        width, matrices = self.width, 3 if self.gated else 2
        perceptron = matrices * width * self.inner + (matrices - 1) * self.inner + width
        return PIXELS * width + self.depth * (4 * width**2 + 4 * width + perceptron + 2 * width)

    def connector(self, text_width: int) -> int:
        wide, norm = self.cell * self.width, self.width
        merger = norm + wide**2 + wide + wide * self.merged + self.merged
        projection = self.merged * text_width + text_width if self.projected else 0
        return self.mergers * merger + projection + (self.width if self.final_norm else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A decoder of Llama's kind, with or without a tower."""

    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    tied: bool
    biases: int = 0
    """Elements of the biases, and of the norms of queries and keys, of a layer."""
    tower: TowerShape | None = None
    context: int | None = None
    """Positions that the configuration allows; None where it says nothing."""

    @property
    def layer(self) -> int:
        """Parameters of a layer: q, k, v, o; gate, up, down; two norms."""
        attention = 2 * self.width * self.head_size * (self.heads + self.kv_heads)
        return attention + 3 * self.width * self.inner + 2 * self.width + self.biases

    @property
    def embedding(self) -> int:
        """Parameters of the embedding, and of the head."""
        return self.vocabulary * self.width

    @property
    def parts(self) -> dict[ModelPart, int]:
        """Parameters by part, as `learner.trainable` names them; a text model has `language` alone."""
        tables = self.embedding * (1 if self.tied else 2)
        language: dict[ModelPart, int] = {"language": tables + self.layers * self.layer + self.width}
        if self.tower is None:
            return language
        return language | {"encoder": self.tower.encoder, "connector": self.tower.connector(self.width)}

    @property
    def parameters(self) -> int:
        return sum(self.parts.values())

    def cached_bytes(self, devices: int = 1, size: int = 2) -> int:
        """Of a token in the KV cache of one of the `devices` that share an engine, `size` bytes a number; where they
        are more than the key-value heads, each head is on several of them."""
        return 2 * self.layers * -(-self.kv_heads // devices) * self.head_size * size


def read_shape(folder: Path) -> ModelShape | None:
    """The shape that `folder/config.json` describes.

    None where there is no such file, it lacks a size (which is no decoder of Llama's kind), or the weights beside it
    have other numbers of parameters than the shape explains (experts, another attention).
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        shape = shape_of(config)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    stored = stored_parameters(folder)
    fits = stored is None or abs(shape.parameters - stored) <= COUNT_TOLERANCE * stored
    return shape if fits else None


def shape_of(config: Mapping[str, Any]) -> ModelShape:
    """From the fields of a `config.json`; a flat openPangu file has the language model's at its top level.

    Raises:
        KeyError: a size is missing.
    """
    text = config.get("text_config") or config
    width, heads = text["hidden_size"], text["num_attention_heads"]
    kv_heads = text.get("num_key_value_heads") or heads
    head_size = text.get("head_dim") or width // heads
    kind = config.get("model_type", "")
    return ModelShape(
        layers=text["num_hidden_layers"],
        width=width,
        inner=text["intermediate_size"],
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        vocabulary=text["vocab_size"],
        tied=bool(config.get("tie_word_embeddings") or text.get("tie_word_embeddings")),
        biases=_biases(text, width, (heads * head_size, kv_heads * head_size), head_size),
        tower=_tower(TOWERS[kind] | config.get("vision_config", {}), width) if kind in TOWERS else None,
        context=text.get("max_position_embeddings"),
    )


def stored_parameters(folder: Path) -> int | None:
    """Elements of all tensors of the model in `folder`, read from the headers of its files; None without weights.

    Raises:
        DataError: a file is cut short, or its folder refused (see `weight_files`).
    """
    files = weight_files(folder)
    return sum(map(_elements, files)) if files else None


def _elements(file: Path) -> int:
    """A file begins with the length of its header, 8 bytes little-endian, then the header, JSON."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        try:
            header = json.loads(stream.read(length)) if 8 + length <= size else None
        except ValueError:
            header = None
    if not isinstance(header, dict):
        raise DataError(f"{file}: no safetensors file ({size} bytes; cut short, or git-lfs' pointer): fetch it again")
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def _biases(text: Mapping[str, Any], width: int, projected: tuple[int, int], head_size: int) -> int:
    """Qwen 2 has biases on q, k and v without a word in its configuration; Qwen 3 norms q and k of each head."""
    kind, (query, key) = text.get("model_type", "llama"), projected
    if kind == "qwen2":
        return query + 2 * key
    attention = query + 2 * key + width if text.get("attention_bias") or text.get("bias") else 0
    perceptron = 2 * text["intermediate_size"] + width if text.get("mlp_bias") else 0
    return attention + perceptron + (2 * head_size if kind == "qwen3" else 0)


def _tower(vision: Mapping[str, Any], text_width: int) -> TowerShape:
    hierarchical = vision["connector"] == "hierarchical"
    return TowerShape(
        depth=vision["depth"],
        width=vision["hidden_size"],
        heads=vision["num_heads"],
        inner=vision["intermediate_size"],
        gated=vision["hidden_act"] == "silu",
        cell=vision["spatial_merge_size"] ** 2,
        mergers=len(vision["mm_unit_vision_select_layer"]) if hierarchical else 1,
        merged=vision["out_hidden_size"] if hierarchical else text_width,
        projected=hierarchical,
        final_norm=vision["final_layernorm"],
    )
