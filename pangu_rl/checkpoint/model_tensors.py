"""The tensors of a Hugging Face folder, one at a time: **shards -> names, shapes, values -> shards**.

The safetensors library reads lazily and writes a whole file from memory at once; a merge of large models needs the
writing to be lazy too, so the file's layout (8 bytes of length, a JSON header, the tensors end to end) is written here.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pangu_rl.checkpoint.hashed_file import HashedFile
from pangu_rl.checkpoint.manifest import Entry
from pangu_rl.checkpoint.model_folder import INDEX, weight_files
from pangu_rl.errors import DataError
from pangu_rl.whole_file import whole_file

SIZES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
"""Bytes of an element by the name that the header gives its dtype."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """What a shard's header says of one tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """As safetensors names it: `BF16`, `F32`."""

    @property
    def elements(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def bytes(self) -> int:
        return self.elements * SIZES[self.dtype]


class ModelTensors:
    """All tensors of one folder, whatever shards they lie in."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            DataError: a shard that the index names is missing, a file that is no safetensors file, a tensor in two of
                them or of a dtype that has no size here.
        """
        self.folder = folder
        self.shards: dict[str, list[TensorEntry]] = {}
        """File name -> its tensors in the file's order."""
        self._files: dict[str, Path] = {}
        self.entries: dict[str, TensorEntry] = {}
        for path in weight_files(folder):
            self.shards[path.name] = read_header(path)
            for entry in self.shards[path.name]:
                if entry.name in self._files:
                    raise DataError(f"{path}: tensor {entry.name} is also in {self._files[entry.name].name}")
                self._files[entry.name] = path
                self.entries[entry.name] = entry

    def read(self, name: str) -> Tensor:
        """One tensor, mapped from its file; the mapping ends with the last reference to it."""
        with safe_open(self._files[name], framework="pt") as file:
            return file.get_tensor(name)


def write_shard(path: Path, entries: Iterable[TensorEntry], chunks: Iterable[Tensor]) -> Entry:
    """A safetensors file of `entries`, whose values come as `chunks` in the same order; hashed, and flushed to disk.

    `chunks` cut the tensors anywhere, so no tensor need exist whole.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for entry in entries:
        header[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [end, end + entry.bytes],
        }
        end += entry.bytes
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    written = 0
    with HashedFile(path) as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for chunk in chunks:
            written += file.write(memoryview(chunk.contiguous().flatten().view(torch.uint8).numpy()))
            del chunk  # before the next is made
    assert written == end, f"{path}: {written} bytes of tensors, the header says {end}"
    return file.entry()


def write_index(folder: Path, shards: dict[str, list[TensorEntry]]) -> None:
    """The index that a folder of several shards needs; it appears whole."""
    tree = {
        "metadata": {"total_size": sum(entry.bytes for entries in shards.values() for entry in entries)},
        "weight_map": {entry.name: name for name, entries in shards.items() for entry in entries},
    }
    with whole_file(folder / INDEX) as partial:
        partial.write_text(json.dumps(tree, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_header(path: Path) -> list[TensorEntry]:
    """What the file `path` holds, in its order; raises DataError as `ModelTensors` does."""
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.offset_keys()}
            entries = [TensorEntry(name, tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()]
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: not a safetensors file that can be read: {error}") from None
    for entry in entries:
        if entry.dtype not in SIZES:
            raise DataError(f"{path}: tensor {entry.name} is {entry.dtype}, known are {', '.join(SIZES)}")
    return entries
