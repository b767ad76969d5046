"""Shipped configurations go by their names wherever one stands, and find each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from pangu_rl.cluster.jobs import load_profile
from pangu_rl.config.load import load_config
from pangu_rl.config.names.named_files import missing_files
from pangu_rl.config.names.shipped import SHIPPED, shipped, shipped_names
from pangu_rl.config.pipelines.graph import read_graph
from pangu_rl.config.pipelines.override_set import load_pipeline
from pangu_rl.config.stages import GrpoConfig
from pangu_rl.errors import ConfigError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name", ["quickstart/grpo_text", "quickstart/grpo_text.yaml", "configs/quickstart/grpo_text.yaml"]
)
def test_a_name_is_found_anywhere(name: str) -> None:
    assert shipped(name) == SHIPPED / "quickstart/grpo_text.yaml"
    config = load_config(GrpoConfig, name)
    assert config.start.sft_config == str(SHIPPED / "quickstart/sft_text.yaml")
    assert not [line for line in missing_files(config) if "sft_config" in line]


def test_what_lies_in_the_working_directory_goes_before(elsewhere: Path) -> None:
    (elsewhere / "quickstart").mkdir()
    (elsewhere / "quickstart/grpo_text.yaml").write_text("mine: true\n")
    with pytest.raises(ConfigError, match="unknown key mine"):
        load_config(GrpoConfig, "quickstart/grpo_text.yaml")


def test_a_pipeline_finds_its_stages_and_a_plan_its_profile() -> None:
    assert [node.name for node in read_graph(load_pipeline("pipeline/text"))]
    assert load_profile("local").nodes
    with pytest.raises(ConfigError, match="atlas_800t_a2"):
        load_profile("no_such")


def test_names_do_not_leave_the_folder() -> None:
    assert shipped("../pyproject.toml") == Path("../pyproject.toml")
    assert "grpo_text" in shipped_names("quickstart")
    with pytest.raises(ConfigError, match="in quickstart there are grpo_text, "):
        load_config(GrpoConfig, "quickstart/no_such")
