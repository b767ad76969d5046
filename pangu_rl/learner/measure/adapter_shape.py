"""How large LoRA adapters are: model shape, configuration -> **their parameters** -> memory estimate.

A target counts by the last word of its name, in every layer that has one: at most what it comes to.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pangu_rl.config.sections.learner import ModelPart
from pangu_rl.config.sections.lora import ALL_LINEAR, LoraConfig
from pangu_rl.learner.measure.model_shape import ModelShape, TowerShape


@dataclass(frozen=True, slots=True)
class Linear:
    """Layers of one name and size."""

    name: str
    inputs: int
    outputs: int
    count: int


def adapter_parameters(shape: ModelShape, lora: LoraConfig, trainable: Collection[ModelPart]) -> int:
    """rank * (inputs + outputs) for every layer that gets an adapter."""
    return lora.rank * sum(
        layer.count * (layer.inputs + layer.outputs) for layer in adapted_layers(shape, lora, trainable)
    )


def adapted_layers(shape: ModelShape, lora: LoraConfig, trainable: Collection[ModelPart]) -> list[Linear]:
    """Those that `lora` names in the trained parts; a text model is trained whole."""
    parts = {"language": _decoder(shape)}
    if shape.tower is not None:
        parts |= {"encoder": _encoder(shape.tower), "connector": _connector(shape.tower, shape.width)}
    layers = [layer for part, own in parts.items() if shape.tower is None or part in trainable for layer in own]
    if lora.targets == ALL_LINEAR:
        return layers
    words = {target.rpartition(".")[2] for target in lora.targets}
    return [layer for layer in layers if layer.name in words]


def _decoder(shape: ModelShape) -> list[Linear]:
    width, query, key = shape.width, shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    sides = {
        "q_proj": (width, query),
        "k_proj": (width, key),
        "v_proj": (width, key),
        "o_proj": (query, width),
        "gate_proj": (width, shape.inner),
        "up_proj": (width, shape.inner),
        "down_proj": (shape.inner, width),
    }
    return [Linear(name, *both, shape.layers) for name, both in sides.items()]


def _encoder(tower: TowerShape) -> list[Linear]:
    width, inner = tower.width, tower.inner
    sides = {"qkv": (width, 3 * width), "proj": (width, width), "up_proj": (width, inner), "down_proj": (inner, width)}
    if tower.gated:
        sides["gate_proj"] = (width, inner)
    return [Linear(name, *both, tower.depth) for name, both in sides.items()]


def _connector(tower: TowerShape, text_width: int) -> list[Linear]:
    wide = tower.cell * tower.width
    layers = [Linear("0", wide, wide, tower.mergers), Linear("2", wide, tower.merged, tower.mergers)]
    return [*layers, Linear("fc1", tower.merged, text_width, 1)] if tower.projected else layers
