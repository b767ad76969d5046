"""Every YAML under configs/ loads; a stage's files start with its name or lie in a folder of it."""

from __future__ import annotations

import pytest

from pangu_rl.config.assemble import AssembleConfig
from pangu_rl.config.benchmark import BenchmarkConfig
from pangu_rl.config.cluster_profile import ClusterProfile
from pangu_rl.config.curate import CurateConfig
from pangu_rl.config.devices import DevicesConfig
from pangu_rl.config.evaluation import EvalConfig
from pangu_rl.config.load import dump_config, load_config
from pangu_rl.config.pipelines.graph import read_graph
from pangu_rl.config.pipelines.override_set import OverrideSet
from pangu_rl.config.pipelines.pipeline import PipelineConfig
from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.config.sampling import DifficultyConfig, IterativeConfig, PairsConfig
from pangu_rl.config.sections.question_prompts import QuestionPromptsConfig
from pangu_rl.config.sections.scorers import JudgeConfig, ScorersConfig, WriterConfig
from pangu_rl.config.stages import DpoConfig, GrpoConfig, SftConfig
from pangu_rl.config.vision import VisionStageConfig
from tests.contracts.source_tree import ROOT

SCHEMAS = {
    "pretrain": PretrainConfig,
    "vit": VisionStageConfig,
    "grpo": GrpoConfig,
    "sft": SftConfig,
    "dpo": DpoConfig,
    "difficulty": DifficultyConfig,
    "pairs": PairsConfig,
    "iterative": IterativeConfig,
    "eval": EvalConfig,
    "curate": CurateConfig,
    "benchmarks": BenchmarkConfig,
    "prompts": QuestionPromptsConfig,
    "pipeline": PipelineConfig,
    "scorers": ScorersConfig,
    "judges": JudgeConfig,
    "writers": WriterConfig,
    "devices": DevicesConfig,
    "assemble": AssembleConfig,
    "overrides": OverrideSet,
}
CLUSTERS = ROOT / "configs" / "clusters"
CONFIGS = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if not path.is_relative_to(CLUSTERS))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_shipped_configuration_loads_and_survives_a_round_trip(path, tmp_path, monkeypatch):
    folder = path.parent.name
    stage = folder if folder in SCHEMAS else path.name.split("_")[0].removesuffix(".yaml")
    assert stage in SCHEMAS, f"{path}: start its name with one of {', '.join(SCHEMAS)}"
    config = load_config(SCHEMAS[stage], path)
    again = tmp_path / "config.yaml"
    again.write_text(dump_config(config), encoding="utf-8")
    assert load_config(SCHEMAS[stage], again) == config
    if stage == "grpo" and config.start is not None:
        load_config(SftConfig, ROOT / config.start.sft_config)
    if stage == "pipeline":
        monkeypatch.chdir(ROOT)
        read_graph(config)


@pytest.mark.parametrize("path", sorted(CLUSTERS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_cluster_profile_loads(path):
    load_config(ClusterProfile, path)


def test_there_are_configurations():
    assert ROOT / "configs/quickstart/grpo_text.yaml" in CONFIGS
