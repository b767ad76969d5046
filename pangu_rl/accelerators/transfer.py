"""Arrays of the host -> **the device, without waiting for it**."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_device(array: np.ndarray, device: torch.device | str) -> Tensor:
    """`array` on `device`, behind what the device still has to do; on a processor the same memory, not a copy.

    Out of ordinary memory a copy would first wait for every queued kernel: it goes through pinned memory.
    """
    tensor, device = torch.from_numpy(np.ascontiguousarray(array)), torch.device(device)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)
