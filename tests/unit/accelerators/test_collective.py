"""What a device's backend finds in its environment when the group for weights is made; there is no device here."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest
import torch.distributed as dist

from pangu_rl.accelerators.collective import BLOCKING_WAIT, build_group, free_port


def waits() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in BLOCKING_WAIT}


@pytest.mark.parametrize("backend", ["nccl", "hccl"])
def test_a_lost_member_is_raised_and_does_not_end_the_process(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL's and HCCL's `wait()` raise in a group that was made under these variables; other groups keep theirs."""
    monkeypatch.setenv("HCCL_BLOCKING_WAIT", "0")
    monkeypatch.delenv("TORCH_NCCL_BLOCKING_WAIT", raising=False)

    def made(*_: Any) -> dict[str, str | None]:
        return waits()

    nccl = type("ProcessGroupNCCL", (), {"Options": SimpleNamespace, "__new__": made})
    monkeypatch.setattr(dist, "ProcessGroupNCCL", nccl, raising=False)
    monkeypatch.setitem(dist.Backend._plugins, "HCCL", SimpleNamespace(extended_api=False, creator_fn=made))
    before = waits()
    assert build_group(backend, "127.0.0.1", free_port("127.0.0.1"), 0, 1) == dict.fromkeys(BLOCKING_WAIT, "1")
    assert waits() == before
