"""What a learner publishes, made by hand: weights in a buffer file with their manifest, true or damaged."""

from __future__ import annotations

from math import prod
from pathlib import Path

import torch
import xxhash

from pangu_rl.records import WeightManifest, WeightTensor

Weights = dict[str, torch.Tensor]


def tensor_digest(tensor: torch.Tensor) -> str:
    return xxhash.xxh3_128_hexdigest(tensor.contiguous().view(torch.uint8).numpy())


def publish(weights: Weights, version: int, path: Path) -> WeightManifest:
    """What a learner does: one buffer file, tensors at 64-byte offsets, digests of the true bytes."""
    tensors, offset = [], 0
    with path.open("wb") as file:
        for name, tensor in weights.items():
            file.seek(offset)
            file.write(tensor.contiguous().view(torch.uint8).numpy().tobytes())
            dtype = str(tensor.dtype).removeprefix("torch.")
            place = {"name": name, "shape": tuple(tensor.shape), "dtype": dtype, "offset": offset}
            tensors.append(WeightTensor(**place, digest=tensor_digest(tensor)))
            offset += -(-tensor.nbytes // 64) * 64
    return WeightManifest(version=version, tensors=tuple(tensors), transport="shm", location=str(path))


def perturbed(weights: Weights) -> Weights:
    generator = torch.Generator().manual_seed(1)
    return {
        name: (tensor + 0.05 * torch.randn(tensor.shape, generator=generator)).to(tensor.dtype)
        for name, tensor in weights.items()
    }


def zero_in_place(manifest: WeightManifest, name: str) -> WeightTensor:
    """Overwrite one tensor of the buffer with zeros; the manifest goes on telling the true digest."""
    victim = next(tensor for tensor in manifest.tensors if tensor.name == name)
    with Path(manifest.location).open("r+b") as file:
        file.seek(victim.offset)
        file.write(bytes(prod(victim.shape) * getattr(torch, victim.dtype).itemsize))
    return victim
