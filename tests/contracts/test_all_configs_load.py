"""Every YAML under configs/ loads; a stage's files start with its name."""

from __future__ import annotations

import pytest

from pangu_rl.config.load import dump_config, load_config
from pangu_rl.config.stages import GrpoConfig, SftConfig
from tests.contracts.source_tree import ROOT

SCHEMAS = {"grpo": GrpoConfig, "sft": SftConfig}
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_shipped_configuration_loads_and_survives_a_round_trip(path, tmp_path):
    stage = path.name.split("_")[0].removesuffix(".yaml")
    assert stage in SCHEMAS, f"{path}: start its name with one of {', '.join(SCHEMAS)}"
    config = load_config(SCHEMAS[stage], path)
    again = tmp_path / "config.yaml"
    again.write_text(dump_config(config), encoding="utf-8")
    assert load_config(SCHEMAS[stage], again) == config
    if stage == "grpo" and config.start is not None:
        load_config(SftConfig, ROOT / config.start.sft_config)


def test_there_are_configurations():
    assert ROOT / "configs/quickstart/grpo_text.yaml" in CONFIGS
