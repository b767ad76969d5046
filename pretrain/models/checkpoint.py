"""Checkpoints on disk: safetensors of either style of names -> **checked against the model** -> loading.

Released folders name their tensors as our modules (`visual.`, `model.`, `lm_head.`); the newer style of transformers
puts `model.visual.` and `model.language_model.`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import PreTrainedModel

from pangu_rl.errors import DataError

NEWER_STYLE = {r"^model\.visual\.": "visual.", r"^model\.language_model\.": "model."}

Shapes = dict[str, list[int]]
"""Our name of a tensor -> its shape."""


def check_checkpoint(folder: Path, model: PreTrainedModel) -> None:
    """Compare the headers of a checkpoint with a model, which may be on the meta device; reads no weights.

    A folder without safetensors is left to transformers.

    Raises:
        DataError: a tensor has another shape, is missing or is unknown; names it, with both shapes.
    """
    shapes = {name: shape for file in _files(folder) for name, shape in _shapes(file).items()}
    if shapes:
        _compare(folder, shapes, _own_shapes(model), optional=getattr(model, "all_tied_weights_keys", {}))


def load_part(module: nn.Module, folder: Path, prefix: str) -> None:
    """Fill `module` with the tensors of `folder` that are named `prefix` and its own name, cast to its dtype.

    Raises:
        DataError: one has another shape, is missing or is unknown; names it, with both shapes.
    """
    files = _files(folder)
    shapes = {name: shape for file in files for name, shape in _shapes(file).items() if name.startswith(prefix)}
    _compare(folder, shapes, _own_shapes(module, prefix))
    own = module.state_dict(prefix=prefix)
    for file in files:
        with safe_open(file, "pt") as tensors, torch.no_grad():
            keys = tensors.keys()
            for key in keys:
                if (name := _own_name(key)) in own:
                    own[name].copy_(tensors.get_tensor(key))


def holds(folder: Path, name: str) -> bool:
    """Whether a tensor of that name of ours is in `folder`."""
    return any(name in _shapes(file) for file in _files(folder))


def _compare(folder: Path, found: Shapes, expected: Shapes, optional: Collection[str] = ()) -> None:
    for name, shape in found.items():
        # Old checkpoints hold the frequencies of their rotary embedding, which are computed.
        if name.endswith("inv_freq"):
            continue
        if shape != expected.get(name):
            has = f"the model of its config.json has {expected[name]}" if name in expected else "the model has none"
            raise DataError(f"{folder}: tensor {name} has shape {shape}, {has}")
    if missing := sorted(expected.keys() - found.keys() - set(optional)):
        raise DataError(
            f"{folder}: {len(missing)} tensors of the model are not in its weights, the first is {missing[0]} "
            f"{expected[missing[0]]}"
        )


def _own_shapes(module: nn.Module, prefix: str = "") -> Shapes:
    return {name: list(tensor.shape) for name, tensor in module.state_dict(prefix=prefix).items()}


def _files(folder: Path) -> list[Path]:
    """As transformers looks for them: one file, or the shards that the index lists."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file() or not index.is_file():
        return [single] if single.is_file() else []
    try:
        listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    except (ValueError, KeyError, AttributeError) as error:
        raise DataError(f"{index}: not an index of weights: {error!r}") from None
    files = [folder / name for name in sorted(set(listed))]
    if missing := [file.name for file in files if not file.is_file()]:
        raise DataError(f"{index} lists {len(missing)} files that are not there, the first is {missing[0]}")
    return files


def _shapes(file: Path) -> Shapes:
    try:
        with safe_open(file, "pt") as tensors:
            keys = tensors.keys()
            return {_own_name(key): tensors.get_slice(key).get_shape() for key in keys}
    except SafetensorError as error:
        raise DataError(f"{file}: not a whole safetensors file: {error}") from None


def _own_name(key: str) -> str:
    for pattern, ours in NEWER_STYLE.items():
        key = re.sub(pattern, ours, key)
    return key
