"""Where the SFT start lies: a function of what decides its weights, and of nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pangu_rl.config.stages import GrpoConfig, SftConfig
from pangu_rl.errors import ConfigError
from pangu_rl.loops.start import start_identity, start_model


def sft(rows: Path, **trainer: object) -> SftConfig:
    return SftConfig.model_validate(
        {
            "model": {"path": "m"},
            "data": {"train": str(rows)},
            "trainer": {"run_dir": "r", "steps": 4, **trainer},
        }
    )


def test_identity_follows_rows_and_settings_but_not_the_run_dir(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("one")
    first = start_identity(sft(rows))
    assert start_identity(sft(rows, run_dir="elsewhere")) == first
    assert start_identity(sft(rows, steps=5)) != first
    rows.write_text("two")
    assert start_identity(sft(rows)) != first


def test_another_base_model_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "sft.yaml"
    file.write_text(yaml.safe_dump(sft(tmp_path / "rows.jsonl").model_dump(mode="json")))
    config = GrpoConfig.model_validate(
        {
            "model": {"path": "other"},
            "start": {"sft_config": str(file)},
            "data": {"train": "t"},
            "trainer": {"run_dir": "r", "steps": 1},
            "rollout": {"max_model_tokens": 4096},
        }
    )
    with pytest.raises(ConfigError, match=r"starts from m, model\.path is other"):
        start_model(config)
