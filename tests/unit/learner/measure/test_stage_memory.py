"""What a plan knows of a model whose weights lie on the cluster alone."""

from __future__ import annotations

import pytest

from pangu_rl.learner.measure.stage_memory import described_gib


def test_a_model_without_its_weights_is_sized_by_its_description() -> None:
    """About 8.8 thousand million parameters of two bytes: 16.4 GiB."""
    assert described_gib("configs/models/openpangu_vl_7b") == pytest.approx(16.4, abs=0.1)
    assert described_gib("configs/models") is None
