"""Without torch-npu beside torch there is nothing here to collect."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

LIVE = importlib.util.find_spec("torch_npu") is not None
collect_ignore_glob = [] if LIVE else ["test_*.py"]


@pytest.fixture(autouse=True)
def compiled_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """As on a machine with CANN: kernels that come with it, and a folder where DeepSpeed looks for it.

    The folder is named only here, since at its import torch-npu would look for more of CANN there.
    """
    import torch_npu

    torch_npu.npu.set_compile_mode(jit_compile=False)
    monkeypatch.setenv("ASCEND_HOME_PATH", str(tmp_path))
    yield
