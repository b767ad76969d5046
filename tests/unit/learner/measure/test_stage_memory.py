"""What a plan knows of a model whose weights lie on the cluster alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pangu_rl.learner.measure.stage_memory import weights_gib


def test_a_model_without_its_weights_is_sized_by_its_description() -> None:
    """About 8.8 thousand million parameters of two bytes: 16.4 GiB."""
    assert weights_gib("configs/models/openpangu_vl_7b") == pytest.approx(16.4, abs=0.1)
    assert weights_gib("configs/models") is None


def test_weights_count_two_bytes_whatever_their_files_have(tmp_path: Path) -> None:
    """A float32 checkpoint is trained and served in bfloat16."""
    (tmp_path / "config.json").write_text("{}")
    save_file({"a": torch.zeros(2**20), "b": torch.zeros(2**20, dtype=torch.bfloat16)}, tmp_path / "model.safetensors")
    assert weights_gib(str(tmp_path)) == 2 * 2 * 2**20 / 2**30
