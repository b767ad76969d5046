"""Publishing weights: the learner's tensors -> **buckets, names and digests** -> rollout engines.

On one node there is one bucket, a file in shared memory that the engines map. Across nodes a collective sends buckets
of at most BUCKET_BYTES, one at a time, and the engines load each as it comes. Either way the manifest says what lies
where and what each tensor's bytes must hash to. A tied tensor stands once, under the name that a Hugging Face
checkpoint gives it. Tensors come one by one, and none is used after the next was asked for.
"""

from __future__ import annotations

import itertools
import math
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch
import xxhash
from torch import Tensor

from pangu_rl.accelerators.collective import SENDER, TIMEOUT_S, broadcast_buffer, build_group, free_port
from pangu_rl.errors import BrokenBroadcast, RunError, first_line
from pangu_rl.learner.weights.tensors import Named
from pangu_rl.records import WeightManifest, WeightTensor
from pangu_rl.storage.file_lock import lock

BUCKET_BYTES = 256 << 20
"""A receiver holds two beside its KV cache, and a device's link is busy from some tens of MiB on."""
ALIGNMENT = 64
"""Bytes; every tensor starts on a cache line, so any dtype can be viewed in place."""
SHARED_MEMORY = Path("/dev/shm")
PREFIX = "pangu_rl_weights_"


class Publisher(Protocol):
    """How rank 0 hands weights out."""

    def publish(self, version: int, weights: Iterable[Named]) -> WeightManifest:
        """Describe `weights` as `version`."""

    def close(self) -> None:
        """Free what is kept."""


class ShmPublisher:
    """Two files in shared memory, written in turn: a reader of the last version is not overwritten by the next."""

    def __init__(self, size: int, directory: Path = SHARED_MEMORY, name: str = "") -> None:
        """`size` is the `buffer_bytes` of the weights; those who publish the same on several nodes share a `name`."""
        self._size, self._directory, self._name = size, directory, name or secrets.token_hex(8)
        self._files: dict[int, _SharedFile] = {}
        _remove_orphans(directory)

    def publish(self, version: int, weights: Iterable[Named]) -> WeightManifest:
        turn = version % 2
        if turn not in self._files:
            self._files[turn] = _SharedFile(self._directory / f"{PREFIX}{self._name}_{turn}", self._size)
        file = self._files[turn]
        tensors = write_tensors(weights, file.buffer)
        return WeightManifest(version=version, tensors=tensors, transport="shm", location=str(file.path))

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()


class BroadcastPublisher:
    """Bucket after bucket to all receivers, as soon as they have joined and listen; only one bucket is kept.

    Receivers join by `build_group(backend, host, port, 1 + their number, ...)` at the manifest's `location` and call
    `broadcast_buffer` once for every bucket of every manifest, in order, each of `buffer_bytes` of its tensors.
    """

    def __init__(
        self,
        *,
        backend: str,
        host: str,
        receivers: int,
        device: str,
        bucket_bytes: int = BUCKET_BYTES,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """No bucket may take longer than `timeout_s`."""
        self._backend, self._host, self._port = backend, host, free_port(host)
        self._world_size, self._device = receivers + 1, device
        self._bucket_bytes, self._timeout_s = bucket_bytes, timeout_s
        self._group = None
        self._tensors: tuple[WeightTensor, ...] = ()

    def publish(self, version: int, weights: Iterable[Named]) -> WeightManifest:
        self._tensors = tuple(describe_tensors(weights, self._bucket_bytes))
        location = f"{self._host}:{self._port}"
        return WeightManifest(version=version, tensors=self._tensors, transport="broadcast", location=location)

    def send(self, weights: Iterable[Named]) -> None:
        """Send `weights`, which are those that were described last.

        Raises:
            BrokenBroadcast: they did not reach the receivers. The group cannot be used again.
        """
        stream = iter(weights)
        try:
            if self._group is None:
                self._group = build_group(
                    self._backend, self._host, self._port, SENDER, self._world_size, self._timeout_s
                )
            for _, bucket in itertools.groupby(self._tensors, key=lambda tensor: tensor.bucket):
                broadcast_buffer(self._group, self._filled(tuple(bucket), stream))
        # The backends' errors have no common class; whichever it is, the engines lack weights.
        except Exception as error:
            self._group = None
            raise BrokenBroadcast(
                f"weights did not reach the {self._world_size - 1} rollout actors at {self._host}:{self._port}: "
                f"{first_line(error)}"
            ) from error

    def close(self) -> None:
        self._group = None

    def _filled(self, bucket: Sequence[WeightTensor], stream: Iterator[Named]) -> Tensor:
        last = bucket[-1]
        buffer = torch.empty(last.offset + _aligned(tensor_bytes(last)), dtype=torch.uint8, device=self._device)
        for tensor in bucket:
            name, value = next(stream)
            assert name == tensor.name, f"{name} came, {tensor.name} was described"
            read_tensor(tensor, buffer).copy_(value)
        return buffer


def buffer_bytes(sizes: Iterable[int]) -> int:
    """Bytes of the buffer that `write_tensors` fills with tensors of these sizes."""
    return sum(map(_aligned, sizes))


def write_tensors(named: Iterable[Named], buffer: Tensor) -> tuple[WeightTensor, ...]:
    """Copy tensors end to end into the uint8 `buffer` and hash what arrived there."""
    tensors, offset = [], 0
    for name, tensor in named:
        place = buffer[offset : offset + tensor.nbytes]
        place.view(tensor.dtype).view(tensor.shape).copy_(tensor.detach())
        tensors.append(_described(name, tensor, place, bucket=0, offset=offset))
        offset += _aligned(tensor.nbytes)
    return tuple(tensors)


def describe_tensors(named: Iterable[Named], bucket_bytes: int) -> Iterator[WeightTensor]:
    """Hash tensors and deal them, in order, into buckets of at most `bucket_bytes`; a larger one gets its own."""
    for (name, tensor), bucket, offset in dealt(named, bucket_bytes):
        yield _described(name, tensor, tensor.detach().reshape(-1).view(torch.uint8), bucket=bucket, offset=offset)


def dealt(named: Iterable[Named], bucket_bytes: int) -> Iterator[tuple[Named, int, int]]:
    """Each tensor with its bucket and the offset there, bytes."""
    bucket, offset = 0, 0
    for name, tensor in named:
        if offset and offset + tensor.nbytes > bucket_bytes:
            bucket, offset = bucket + 1, 0
        yield (name, tensor), bucket, offset
        offset += _aligned(tensor.nbytes)


def read_tensor(tensor: WeightTensor, buffer: Tensor) -> Tensor:
    """The tensor in the uint8 `buffer` of its bucket, without a copy."""
    place = buffer[tensor.offset : tensor.offset + tensor_bytes(tensor)]
    return place.view(getattr(torch, tensor.dtype)).view(tensor.shape)


def tensor_bytes(tensor: WeightTensor) -> int:
    return getattr(torch, tensor.dtype).itemsize * math.prod(tensor.shape)


def _described(name: str, tensor: Tensor, place: Tensor, *, bucket: int, offset: int) -> WeightTensor:
    """`place` are the tensor's bytes, uint8."""
    return WeightTensor(
        name=name,
        shape=tuple(tensor.shape),
        dtype=str(tensor.dtype).removeprefix("torch."),
        bucket=bucket,
        offset=offset,
        digest=xxhash.xxh3_128_hexdigest(place.cpu().numpy()),
    )


class _SharedFile:
    """A locked file and the tensor that maps it; the lock tells the living from what a killed run left."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        lock(self._handle, path)
        try:
            # All of it now: a full /dev/shm is an error here and a SIGBUS later.
            os.posix_fallocate(self._handle, 0, size)
        except OSError as error:
            self.close()
            raise RunError(
                f"{path.parent} has no room for {size / 2**30:.2f} GiB of weights ({error.strerror}): enlarge it, or "
                "set rollout.weight_transport=broadcast"
            ) from None
        self.buffer = torch.from_file(str(path), shared=True, size=size, dtype=torch.uint8)

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
            if lock(handle, path):  # Otherwise its learner lives.
                path.unlink(missing_ok=True)
        finally:
            os.close(handle)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
