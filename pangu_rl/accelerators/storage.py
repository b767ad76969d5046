"""Memory behind tensors, given up and taken again where it stands: tensors -> **storages** -> emptied, filled.

Every view of a storage is right again once it is filled, whoever holds it. Nothing may read one meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


def storages_of(tensors: Iterable[Tensor], device: torch.device) -> Iterator[torch.UntypedStorage]:
    """Each storage of `device` once. Without those that a file or an array lent, which cannot be given back."""
    seen = set()
    for tensor in tensors:
        storage = tensor.untyped_storage()
        if storage._cdata in seen or storage.device != device or not storage.nbytes() or not storage.resizable():
            continue
        seen.add(storage._cdata)
        yield storage


def contents(storage: torch.UntypedStorage) -> Tensor:
    """uint8 view of all its bytes."""
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
