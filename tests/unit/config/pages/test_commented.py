"""`config show`: what each setting means stands above it, and the file can be used as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from pangu_rl.cli.app import STAGES, schema_of
from pangu_rl.config.load import load_config
from pangu_rl.config.names.shipped import SHIPPED
from pangu_rl.config.pages.commented import WIDTH, commented

FILES = {
    "grpo": "quickstart/grpo_text",
    "sft": "quickstart/sft_text",
    "dpo": "dpo/mpo_text",
    "vit": "vit/mini_clusters",
    "pretrain": "mini/pretrain_sft",
    "difficulty": "recipe/difficulty_text",
    "pairs": "recipe/pairs_text",
    "iterative": "recipe/iterative_text",
    "eval": "eval/easy_vqa",
    "assemble": "mindvl_8b/assemble_start",
    "pipeline": "pipeline/text",
}


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_shown_loads_back(stage: str, tmp_path: Path) -> None:
    schema = schema_of(stage)
    config = load_config(schema, SHIPPED / f"{FILES[stage]}.yaml")
    (tmp_path / "shown.yaml").write_text(commented(config), encoding="utf-8")
    assert load_config(schema, tmp_path / "shown.yaml") == config


def test_each_setting_follows_its_docstring() -> None:
    lines = commented(load_config(schema_of("grpo"), "quickstart/grpo_text")).splitlines()
    place = lines.index("  completions: 8")
    assert lines[place - 1] == "  # Completions per prompt: the group size N."
    assert all(len(line) <= WIDTH for line in lines if line.lstrip().startswith("#"))
