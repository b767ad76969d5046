"""A low-rank adapter's folder in the layout of peft: tensors -> **its files** -> whoever folds it.

The folder names its base model by a path, as peft's do. A file beside, which peft does not read, says what the base
model hashes to, so that an adapter of ours is not folded into one that was put in its place, and which tensors of its
files the adapter changes, where transformers knows a tensor by another name than the files do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pangu_rl.checkpoint.folding import folded
from pangu_rl.checkpoint.model_folder import ADAPTER_CONFIG, files_checksum, sampled_checksum
from pangu_rl.checkpoint.model_tensors import ModelTensors, read_header
from pangu_rl.errors import DataError

CONFIG, WEIGHTS = ADAPTER_CONFIG, "adapter_model.safetensors"
BASE = "base_model.json"
SIDES = ("lora_A", "lora_B")
PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "use_dora": (False, None),
    "use_bdlora": (None,),
    "lora_bias": (False, None),
    "fan_in_fan_out": (False, None),
    "modules_to_save": (None, []),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "target_parameters": (None, []),
    "trainable_token_indices": (None,),
    "megatron_config": (None,),
}
"""Keys of peft's configuration that mean more than W + s B A by any other value."""


def parameter_name(layer: str, side: str) -> str:
    """peft's name of A or B (`lora_A`, `lora_B`) of a layer of the model."""
    return f"base_model.model.{layer}.{side}.weight"


def write_adapter(
    directory: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    base: Path,
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write `tensors` in host memory, by their peft names, for the model in `base`, which `config` names; `renamed` are
    weights of the model that its files have under another name."""
    directory.mkdir(parents=True, exist_ok=True)
    # One key: the library writes several in any order.
    save_file(dict(tensors), directory / WEIGHTS, {"format": "pt"})
    told = {CONFIG: config, BASE: {"checksum": sampled_checksum(base), "renamed": dict(renamed)}}
    for name, tree in told.items():
        (directory / name).write_text(json.dumps(tree, indent=2, sort_keys=True) + "\n", encoding="utf-8")


class FoldedModel(ModelTensors):
    """The tensors of an adapter's base model, each with the adapter folded in when it is read."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            DataError: `folder` is no plain LoRA adapter of peft's, its base model is not where it says or is another
                one, or has no such layer.
        """
        self.adapter = folder
        config = _plain_config(folder / CONFIG)
        base = Path(str(config.get("base_model_name_or_path")))
        if not base.is_dir():
            raise DataError(
                f"{folder / CONFIG}: base_model_name_or_path {base} is no folder here: write where the base model lies"
            )
        super().__init__(base)
        root = math.sqrt(config["r"]) if config.get("use_rslora") else config["r"]
        self._scale = config["lora_alpha"] / root
        self._sides = {entry.name: entry for entry in read_header(folder / WEIGHTS)}
        about = json.loads((folder / BASE).read_text(encoding="utf-8")) if (folder / BASE).is_file() else {}
        self._learned = {stored: name for name, stored in about.get("renamed", {}).items()}
        self._check_base(base, about.get("checksum"))
        self._check_layers()

    def checksum(self) -> str:
        """Of the adapter, hex; its base is named in it."""
        return files_checksum([self.adapter / CONFIG, self.adapter / WEIGHTS])

    def read(self, name: str) -> Tensor:
        weight, sides = super().read(name), [self._side(name, side) for side in SIDES]
        if not set(sides) <= self._sides.keys():
            return weight
        with safe_open(self.adapter / WEIGHTS, framework="pt") as file:
            return folded(weight, *map(file.get_tensor, sides), self._scale)

    def _side(self, name: str, side: str) -> str:
        """What the adapter's file calls a side of what it adds to the tensor `name` of the base."""
        return parameter_name(self._learned.get(name, name).removesuffix(".weight"), side)

    def _check_base(self, base: Path, meant: str | None) -> None:
        if meant is not None and meant != sampled_checksum(base):
            raise DataError(
                f"{self.adapter}: its base model {base} is not the one that it was trained beside: other weights or "
                "another config.json"
            )

    def _check_layers(self) -> None:
        expected = {
            self._side(name, side): (name, axis)
            for name in self.entries
            for side, axis in (("lora_A", 1), ("lora_B", 0))
        }
        for name, side in self._sides.items():
            if name not in expected:
                raise DataError(
                    f"{self.adapter / WEIGHTS}: {name} belongs to no tensor of the base model {self.folder}"
                )
            weight, axis = expected[name]
            if side.shape[axis] != self.entries[weight].shape[axis]:
                raise DataError(
                    f"{self.adapter / WEIGHTS}: {name} is {side.shape} and {weight} of the base model {self.folder} is "
                    f"{self.entries[weight].shape}"
                )


def open_model(folder: Path) -> ModelTensors:
    """The tensors of a model folder, or of an adapter's base with the adapter folded in."""
    return FoldedModel(folder) if (folder / CONFIG).is_file() else ModelTensors(folder)


def _plain_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        rank, alpha = config["r"], config["lora_alpha"]
        assert isinstance(rank, int) and isinstance(alpha, int | float) and rank > 0
    except (OSError, ValueError, KeyError, TypeError, AssertionError):
        raise DataError(f"{path}: no configuration of a LoRA adapter with r and lora_alpha") from None
    for key, plain in PLAIN.items():
        if key in config and config[key] not in plain:
            raise DataError(f"{path}: {key} is {config[key]!r}: only plain LoRA is folded (W + scale B A)")
    return config
