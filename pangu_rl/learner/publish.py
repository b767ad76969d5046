"""Publishing weights: the learner's tensors -> **one flat buffer, names and digests** -> rollout engines.

On one node the buffer is a file in shared memory that the engines map; across nodes it is sent to them by a collective.
Either way the manifest says what lies where and what each tensor's bytes must hash to. A tied tensor stands once, under
the name that a Hugging Face checkpoint gives it.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import torch
import xxhash
from torch import Tensor

from pangu_rl.accelerators.collective import SENDER, broadcast_buffer, build_group, free_port
from pangu_rl.errors import RunError, WeightSyncError
from pangu_rl.records import WeightManifest, WeightTensor

ALIGNMENT = 64
"""Bytes; every tensor starts on a cache line, so any dtype can be viewed in place."""
SHARED_MEMORY = Path("/dev/shm")
PREFIX = "pangu_rl_weights_"


class Publisher(Protocol):
    """How rank 0 hands weights out."""

    def publish(self, version: int, weights: Iterable[tuple[str, Tensor]]) -> WeightManifest:
        """Keep a copy of `weights` as `version` and describe it."""

    def close(self) -> None:
        """Free the copies."""


class ShmPublisher:
    """Two files in shared memory, written in turn: a reader of the last version is not overwritten by the next."""

    def __init__(self, directory: Path = SHARED_MEMORY) -> None:
        self._directory = directory
        self._files: dict[int, _SharedFile] = {}
        _remove_orphans(directory)

    def publish(self, version: int, weights: Iterable[tuple[str, Tensor]]) -> WeightManifest:
        named = list(weights)
        turn = version % 2
        if turn not in self._files:
            self._files[turn] = _SharedFile(self._directory, buffer_bytes(named))
        file = self._files[turn]
        tensors = write_tensors(named, file.buffer)
        return WeightManifest(version=version, tensors=tensors, transport="shm", location=str(file.path))

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()


class BroadcastPublisher:
    """A buffer on the device that a thread sends to all receivers, as soon as they have joined and listen.

    Receivers join by `build_group(backend, host, port, 1 + their number, ...)` at the manifest's `location` and call
    `broadcast_buffer` once for every manifest, in order.
    """

    def __init__(self, *, backend: str, host: str, receivers: int, device: str) -> None:
        self._backend, self._host, self._port = backend, host, free_port(host)
        self._world_size, self._device = receivers + 1, device
        self._group = None
        self._buffer: Tensor | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def publish(self, version: int, weights: Iterable[tuple[str, Tensor]]) -> WeightManifest:
        self._finish()
        named = list(weights)
        if self._buffer is None:
            self._buffer = torch.empty(buffer_bytes(named), dtype=torch.uint8, device=self._device)
        tensors = write_tensors(named, self._buffer)
        self._thread = threading.Thread(target=self._send, name="weight-broadcast", daemon=True)
        self._thread.start()
        location = f"{self._host}:{self._port}"
        return WeightManifest(version=version, tensors=tensors, transport="broadcast", location=location)

    def close(self) -> None:
        if self._failure is None:
            self._finish()
        self._group = self._buffer = None

    def _send(self) -> None:
        try:
            if self._group is None:
                self._group = build_group(self._backend, self._host, self._port, SENDER, self._world_size)
            broadcast_buffer(self._group, self._buffer)
        except Exception as error:
            self._failure = error

    def _finish(self) -> None:
        if self._thread is not None:
            self._thread.join()
        if self._failure is not None:
            raise WeightSyncError(
                f"weights did not reach the {self._world_size - 1} rollout actors at {self._host}:{self._port}: "
                f"{self._failure}"
            ) from self._failure


def buffer_bytes(named: Iterable[tuple[str, Tensor]]) -> int:
    """Bytes of the buffer that `write_tensors` fills."""
    return sum(_aligned(tensor.nbytes) for _, tensor in named)


def write_tensors(named: Iterable[tuple[str, Tensor]], buffer: Tensor) -> tuple[WeightTensor, ...]:
    """Copy tensors end to end into the uint8 `buffer` and hash what arrived there."""
    tensors, offset = [], 0
    for name, tensor in named:
        place = buffer[offset : offset + tensor.nbytes]
        place.view(tensor.dtype).view(tensor.shape).copy_(tensor.detach())
        tensors.append(
            WeightTensor(
                name=name,
                shape=tuple(tensor.shape),
                dtype=str(tensor.dtype).removeprefix("torch."),
                offset=offset,
                digest=xxhash.xxh3_128_hexdigest(place.cpu().numpy()),
            )
        )
        offset += _aligned(tensor.nbytes)
    return tuple(tensors)


def read_tensor(tensor: WeightTensor, buffer: Tensor) -> Tensor:
    """The tensor in the uint8 `buffer`, without a copy."""
    dtype = getattr(torch, tensor.dtype)
    size = dtype.itemsize * int(torch.Size(tensor.shape).numel())
    return buffer[tensor.offset : tensor.offset + size].view(dtype).view(tensor.shape)


class _SharedFile:
    """A locked file and the tensor that maps it; the lock tells the living from what a killed run left."""

    def __init__(self, directory: Path, size: int) -> None:
        self._handle, name = tempfile.mkstemp(prefix=PREFIX, dir=directory)
        self.path = Path(name)
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        try:
            # All of it now: a full /dev/shm is an error here and a SIGBUS later.
            os.posix_fallocate(self._handle, 0, size)
        except OSError as error:
            self.close()
            raise RunError(
                f"{directory} has no room for {size / 2**30:.2f} GiB of weights ({error.strerror}): enlarge it, or set "
                "rollout.weight_transport=broadcast"
            ) from None
        self.buffer = torch.from_file(name, shared=True, size=size, dtype=torch.uint8)

    def close(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self._handle)


def _remove_orphans(directory: Path) -> None:
    for path in directory.glob(f"{PREFIX}*"):
        try:
            handle = os.open(path, os.O_RDWR)
        except (FileNotFoundError, PermissionError):
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except BlockingIOError:
            pass  # Its learner lives.
        finally:
            os.close(handle)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
