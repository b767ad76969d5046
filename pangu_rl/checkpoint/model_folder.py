"""A Hugging Face model folder as the user names it: is it one at all, before anything heavy looks into it?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pangu_rl.checkpoint.manifest import Entry
from pangu_rl.errors import DataError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
PICKLES = ("*.bin", "*.pt", "*.pth")
TEXT_SECTIONS = ("text_config", "llm_config")
"""Keys of config.json under which a model with pictures has its language model's, when it is not flat."""
SAMPLES, SAMPLE_BYTES = 64, 4096
GENERATION = "generation_config.json"
COMPANIONS = (
    "tokenizer*",
    "chat_template*",
    "special_tokens_map.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
)
"""Files beside config and weights that make a folder one that can be prompted: tokenizer, template, processor."""


def model_config(path: Path, key: str = "model.path") -> dict[str, Any]:
    """`config.json` of the model folder `path`, which also holds weights; `key` is what names it, for errors.

    Raises:
        DataError: no such folder, no configuration that can be read, or no weights in it.
    """
    if not path.is_dir():
        raise DataError(
            f"{key} {path}: no such folder; `pangu-rl curate smollm2` prepares a cache:// model, and a name on "
            "the hub is fetched"
        )
    try:
        config = read_object(path / "config.json")
    except FileNotFoundError:
        if (path / ADAPTER_CONFIG).is_file():
            raise DataError(
                f"{key} {path}: an adapter, and no whole model; fold it: pangu-rl merge {path} --output DIR"
            ) from None
        raise DataError(
            f"{key} {path}: no config.json in it; give a Hugging Face model folder, or a run that has made a model"
        ) from None
    for section in TEXT_SECTIONS:
        if not isinstance(config.get(section) or {}, dict):
            raise DataError(f"{path / 'config.json'}: {section} is {config[section]!r}: it is to be keys with values")
    _require_weights(path, key)
    return config


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file of keys with values, as all settings of a model folder are.

    Raises:
        DataError: it is something else, or cannot be read. FileNotFoundError: there is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        way_out = "save it without a byte order mark" if "BOM" in str(error) else "copy the whole folder again"
        raise DataError(f"{path} is not JSON: {error}: {way_out}") from None
    if not isinstance(found, dict):
        raise DataError(f"{path} holds {json.dumps(found)[:40]}: it is to be keys with values; copy the file again")
    return found


def _require_weights(path: Path, key: str) -> None:
    """Learners look for `model.safetensors` or an index, and engines take what there is."""
    names = [file.name for file in weight_files(path)]
    if not names and (pickles := sorted(file.name for pattern in PICKLES for file in path.glob(pattern))):
        raise DataError(
            f"{key} {path}: its weights are {pickles[0]}, and pickles are not read: convert the folder to safetensors "
            "(transformers: from_pretrained, then save_pretrained to another folder)"
        )
    if not names:
        raise DataError(f"{key} {path}: no weights, the folder has no .safetensors file: copy the whole folder")
    if (path / INDEX).is_file() or names == [SINGLE]:
        return
    if len(names) > 1:
        raise DataError(f"{key} {path}: {names[0]} and others without {INDEX}: copy the whole folder")
    raise DataError(
        f"{key} {path}: its weights are {names[0]}, and {SINGLE} is looked for: rename it, if it is the whole model "
        "under the names of transformers, or convert it"
    )


def weight_files(folder: Path) -> list[Path]:
    """The files that are the model's weights, in the order of their names: those of the index, or all there are.

    Learner and engine find weights by rules of their own, so a folder that they would read differently is refused.

    Raises:
        DataError: an index that cannot be read or lists what is not there; weights beside `model.safetensors`, or that
            beside an index of others.
    """
    found = sorted(folder.glob("*.safetensors"))
    index = folder / INDEX
    if not index.is_file():
        if len(found) > 1 and folder / SINGLE in found:
            strays = ", ".join(file.name for file in found if file.name != SINGLE)
            raise DataError(
                f"{folder}: {strays} stands beside {SINGLE}, and an engine would read both: move away what is not the "
                "model's"
            )
        return found
    listed = _listed(index)
    if missing := [name for name in listed if not (folder / name).is_file()]:
        raise DataError(f"{folder / missing[0]} is missing, {INDEX} names it")
    if folder / SINGLE in found and SINGLE not in listed:
        raise DataError(
            f"{folder}: {SINGLE} stands beside {INDEX}, which lists {listed[0]} and others: move away what is not the "
            "model's"
        )
    return [folder / name for name in listed]


def _listed(index: Path) -> list[str]:
    try:
        names = sorted(set(read_object(index)["weight_map"].values()))
    except (KeyError, AttributeError, TypeError):
        raise DataError(f"{index}: no index of safetensors shards: it has no weight_map of names") from None
    for name in names:
        if not isinstance(name, str):
            raise DataError(f"{index}: names the shard {name!r}, which is no name of a file")
        if Path(name).name != name:
            raise DataError(f"{index}: names the shard {name!r}, which leaves the folder")
    if not names:
        raise DataError(f"{index}: lists no shards")
    return names


def model_checksum(path: Path, known: Mapping[str, Entry] = MappingProxyType({})) -> str:
    """sha256 over names and bytes of the folder's weights and `config.json`, hex: another one is another model.

    Files that are `known`, by name, are not read.
    """
    return files_checksum(sorted([*weight_files(path), path / "config.json"]), known)


def files_checksum(files: Sequence[Path], known: Mapping[str, Entry] = MappingProxyType({})) -> str:
    """sha256 over names and bytes of `files`, hex; those that are `known`, by name, are not read."""
    with ThreadPoolExecutor() as threads:
        digests = list(
            threads.map(lambda file: known[file.name].sha256 if file.name in known else _sha256(file), files)
        )
    lines = (f"{file.name}\t{digest}\n" for file, digest in zip(files, digests, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def end_of_sequence(path: Path) -> tuple[int, ...]:
    """Ids that the folder ends a sequence with: of `generation_config.json`, else of `config.json`; one or several.

    Raises:
        DataError: no `config.json`, or an id that is none.
    """
    config = model_config(path)
    generation = path / GENERATION
    chosen = read_object(generation) if generation.is_file() else {}
    for tree in (chosen, config, *(config.get(section) or {} for section in TEXT_SECTIONS)):
        if (named := tree.get("eos_token_id")) is not None:
            ids = named if isinstance(named, list) else [named]
            if not all(type(index) is int and index >= 0 for index in ids):
                raise DataError(f"{path}: eos_token_id is {named!r}: give a token's id, or a list of ids")
            return tuple(ids)
    return ()


def companion_files(path: Path) -> list[Path]:
    """Files beside the weights that decide how text and pictures are read, in the order of their names."""
    return sorted({file for pattern in COMPANIONS for file in path.glob(pattern)})


def companion_digest(path: Path) -> str:
    """sha256 over names and bytes of `companion_files`, hex."""
    lines = (f"{file.name}\t{_sha256(file)}\n" for file in companion_files(path))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def sampled_checksum(path: Path) -> str:
    """A digest of the weights and `config.json` that reads `SAMPLES` places of each file: other weights differ nearly
    everywhere, and a start need not read them whole to see it."""
    digest = hashlib.sha256((path / "config.json").read_bytes())
    for file in weight_files(path):
        size = file.stat().st_size
        digest.update(f"{file.name}\t{size}\n".encode())
        with file.open("rb") as weights:
            for place in range(SAMPLES):
                weights.seek(max(0, size - SAMPLE_BYTES) * place // (SAMPLES - 1))
                digest.update(weights.read(SAMPLE_BYTES))
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
