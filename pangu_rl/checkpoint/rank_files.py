"""The files of one rank: state -> copy in host memory -> **written and hashed in one pass, by a thread** -> manifest.

Training goes on while the thread writes: what it writes is a copy, so no later step can reach it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pangu_rl.checkpoint.disk import told
from pangu_rl.checkpoint.hashed_file import HashedFile
from pangu_rl.checkpoint.manifest import Entry, entries_of

_THREAD = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
"""One for the process: hashing and writing must not take more than one core from the training."""


def host_copy(state: Any) -> Any:
    """`state` with every tensor in its dicts, lists and tuples copied into host memory, tied ones once.

    A tensor that is a view of a larger one comes without the rest of it.
    """
    copies: dict[tuple, Tensor] = {}

    def copied(value: Any) -> Any:
        if isinstance(value, Tensor):
            key = (value.data_ptr(), value.dtype, value.shape, value.stride(), value.device)
            if value.numel() == 0 or key not in copies:
                copies[key] = value.detach().to("cpu", copy=True)
            return copies[key]
        if isinstance(value, dict):
            result = copy.copy(value)  # keeps the class, and what a module's state has beside its tensors
            result.update((name, copied(item)) for name, item in value.items())
            return result
        if type(value) in (list, tuple):
            return type(value)(map(copied, value))
        return value

    return copied(state)


def write_files(directory: Path, states: Mapping[str, Any]) -> Future[dict[str, Entry]]:
    """Write `states` (name below `directory` -> bytes, or what `torch.save` writes) by a thread, each freed after it.

    The result: an entry for each. It raises CheckpointError: a file could not be written.
    """
    return _THREAD.submit(_write, directory, dict(states))


def fill_folder(directory: Path, write: Callable[[], Mapping[str, Entry] | None]) -> Future[dict[str, Entry]]:
    """Have `write` fill `directory` by the same thread; what it does not return an entry of is hashed afterwards.

    Result and errors as `write_files`.
    """
    return _THREAD.submit(_fill, directory, write)


def _write(directory: Path, states: dict[str, Any]) -> dict[str, Entry]:
    entries = {}
    for name in list(states):
        state = states.pop(name)
        with told(directory / name), HashedFile(directory / name) as file:
            if isinstance(state, bytes):
                file.write(state)
            else:
                torch.save(state, file)
        entries[name] = file.entry()
    return entries


def _fill(directory: Path, write: Callable[[], Mapping[str, Entry] | None]) -> dict[str, Entry]:
    with told(directory):
        return entries_of(directory, known=write() or {})
