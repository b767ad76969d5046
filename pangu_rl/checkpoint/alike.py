"""Are these folders one architecture? Folders -> **the first difference that forbids a mean**, as an error."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from pangu_rl.checkpoint.model_folder import COMPANIONS, model_config, read_object
from pangu_rl.checkpoint.model_tensors import ModelTensors
from pangu_rl.checkpoint.settings import ABSENT, brief, flat
from pangu_rl.errors import DataError

FREE_KEYS = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
"""Keys of config.json that say nothing of the architecture; dtypes are compared tensor by tensor."""
LONGEST = "max_position_embeddings"
TOLD = re.compile(
    rf"use_cache|(?:pad|bos|eos|sep)_token_id|.*dropout.*|\w+_pdrop|drop_path\w*|gradient_checkpointing|unsloth_\w+|"
    rf"auto_map|tokenizer_class|initializer_range|return_dict|output_(?:attentions|hidden_states)|{LONGEST}"
)
"""Keys of config.json that a trained model's forward pass does not read: of training, sampling or another program.
Where they differ, the first folder's are taken."""


def require_alike(models: Sequence[ModelTensors], meant: Callable[[Path], Any] | None = None) -> list[str]:
    """Refuse another architecture or vocabulary; a line for each setting and other file that differs from the first
    folder's. `meant` reads what a `config.json` means, where two are spelled differently.

    Raises:
        DataError: names what differs, with both values.
    """
    differences = _compare_folders([model.folder for model in models], meant or _json)
    for model in models[1:]:
        _compare_tensors(models[0], model)
    _compare_tied(models)
    return differences


def companions(folder: Path) -> list[Path]:
    """What a model folder has beside its weights and config.json."""
    return [file for pattern in ("generation_config.json", *COMPANIONS) for file in folder.glob(pattern)]


def _compare_folders(folders: Sequence[Path], meant: Callable[[Path], Any]) -> list[str]:
    differences = []
    first = folders[0]
    for folder in folders[1:]:
        differences += _compare((first / "config.json", folder / "config.json"), meant, FREE_KEYS)
        if (first / "tokenizer.json").is_file() or (folder / "tokenizer.json").is_file():
            _compare((first / "tokenizer.json", folder / "tokenizer.json"), _tokenizer)
        for name in sorted({file.name for place in (first, folder) for file in companions(place)} - {"tokenizer.json"}):
            if _content(first / name) != _content(folder / name):
                differences.append(f"{name}: {folder} differs from {first}, whose file is taken")
    return differences


def _compare(paths: tuple[Path, Path], read: Callable[[Path], Any], free: Sequence[str] = ()) -> list[str]:
    """Lines for what differs and may; only a configuration, which has `free` keys, has such."""
    written = [flat(_json(path), free) for path in paths]
    if written[0] == written[1]:
        return []
    meant = [flat(read(path), free) for path in paths]
    differing = _differing(meant)
    if against := [key for key in differing if not (free and _is_told(key, meant))]:
        # As written, where that shows the difference: a person finds it in the files.
        shown = _differing(written)
        key, trees = next(((key, written) for key in against if key in shown), (against[0], meant))
        raise DataError(f"{key} is {_values(key, trees, paths)}: no mean of the two")
    return [f"{paths[0].name}: {key} is {_values(key, meant, paths)}: the first is taken" for key in differing]


def _differing(trees: Sequence[dict[str, Any]]) -> list[str]:
    """Keys of two flat trees that differ, in order; what is null or empty is absent."""
    one, other = ({key: value for key, value in tree.items() if value not in (None, {}, [])} for tree in trees)
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))


def _is_told(key: str, meant: Sequence[dict[str, Any]]) -> bool:
    """Rotary positions that are scaled may be so by the longest context."""
    name = next((part for part in key.split(".") if TOLD.fullmatch(part)), None)
    return name is not None and not (name == LONGEST and any(map(_scales, meant)))


def _scales(tree: dict[str, Any]) -> bool:
    types = (value for key, value in tree.items() if key.endswith(("rope_type", "rope_scaling.type")))
    return any(value not in (None, "default") for value in types)


def _values(key: str, trees: Sequence[dict[str, Any]], paths: tuple[Path, Path]) -> str:
    return " and ".join(f"{brief(tree.get(key, ABSENT))} in {path}" for tree, path in zip(trees, paths, strict=True))


def _compare_tensors(one: ModelTensors, other: ModelTensors) -> None:
    for name in sorted(one.entries.keys() ^ other.entries.keys()):
        has, lacks = (one, other) if name in one.entries else (other, one)
        raise DataError(
            f"tensor {name} is in {has.folder} and not in {lacks.folder}: {len(one.entries)} tensors against "
            f"{len(other.entries)}"
        )
    for name, entry in one.entries.items():
        theirs = other.entries[name]
        for what, mine, their in (("shape", entry.shape, theirs.shape), ("dtype", entry.dtype, theirs.dtype)):
            if mine != their:
                raise DataError(f"tensor {name} has {what} {mine} in {one.folder} and {their} in {other.folder}")


def _compare_tied(models: Sequence[ModelTensors]) -> None:
    """A checkpoint of a tied model that repeats its head must repeat the embedding."""
    config = model_config(models[0].folder)
    if not (config.get("text_config") or config).get("tie_word_embeddings", config.get("tie_word_embeddings", False)):
        return
    names = models[0].entries
    heads = [name for name in names if name.endswith("lm_head.weight")]
    embeddings = [name for name in names if name.endswith("embed_tokens.weight")]
    for model in models if heads and embeddings else ():
        if not torch.equal(model.read(heads[0]), model.read(embeddings[0])):
            raise DataError(
                f"{model.folder}: config.json ties word embeddings, and {heads[0]} differs from {embeddings[0]}"
            )


def _tokenizer(path: Path) -> Any:
    """What the file means, by the library's own spelling: merges as pairs or as text, defaults left out or written;
    truncation and padding are a caller's, and no part of a vocabulary."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception:  # the library raises bare Exceptions; a file that it cannot read is compared as it stands
        return _json(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return json.loads(tokenizer.to_str())


def _json(path: Path) -> Any:
    try:
        return read_object(path)
    except FileNotFoundError:
        raise DataError(f"{path} is missing, another of the models has it") from None


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
