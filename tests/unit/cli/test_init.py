"""What `pangu-rl init` writes is sound as it is, and nothing of the user's is written over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pangu_rl.cli import app
from pangu_rl.cli.init import FILES, write_starter
from pangu_rl.config.load import load_config
from pangu_rl.config.stages import GrpoConfig
from pangu_rl.errors import ConfigError, DataError, RewardError
from tests.contracts.source_tree import ROOT

BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "ray", "vllm"):
            raise ImportError(name + " is not to be imported")
sys.meta_path.insert(0, Blocker())
import pangu_rl.cli
pangu_rl.cli.main()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    return tmp_path


def check(*words: str) -> str:
    """What `pangu-rl config check` says; raises what the command line makes one line of."""
    return CliRunner().invoke(app, ["config", "check", *words], catch_exceptions=False).output


@pytest.mark.parametrize("stage", FILES)
def test_a_starter_passes_the_check(stage: str, folder: Path) -> None:
    write_starter(stage, folder, "model")
    assert f"{stage}.yaml: a sound {stage} configuration" in check(stage, "--config", f"{stage}.yaml")


def test_the_check_needs_none_of_the_libraries_that_take_seconds(folder: Path) -> None:
    write_starter("grpo", folder, "model")
    command = [sys.executable, "-c", BLOCKED, "config", "check", "grpo", "--config", "grpo.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr


def test_the_check_names_the_row_and_the_function_at_fault(folder: Path) -> None:
    write_starter("grpo", folder, "model")
    with pytest.raises(ConfigError, match="did you mean right_number"):
        check("grpo", "--config", "grpo.yaml", 'rewards.functions=[{name: "my_reward.py:rigth_number"}]')
    (folder / "grpo_rows.jsonl").write_text('{"prompt": "1 + 1?", "anwser": "2"}\n')
    with pytest.raises(DataError, match=r"grpo_rows\.jsonl, row 1: key answer is missing"):
        check("grpo", "--config", "grpo.yaml")


def test_a_gold_that_the_reward_does_not_take_is_named(folder: Path) -> None:
    write_starter("grpo", folder, "model")
    (folder / "grpo_rows.jsonl").write_text('{"prompt": "1 + 1?", "answer": "2"}\n{"prompt": "?", "answer": "1/2"}\n')
    check("grpo", "--config", "grpo.yaml", "rewards.functions=[{name: boxed_accuracy}]")
    with pytest.raises(RewardError, match="reward function right_number raised ValueError"):
        check("grpo", "--config", "grpo.yaml")


def test_the_settings_of_the_file_are_those_that_are_loaded(folder: Path) -> None:
    write_starter("grpo", folder, "some/model")
    config = load_config(GrpoConfig, "grpo.yaml")
    assert config.model.path == "some/model"
    assert config.rewards.functions[1].args == {"limit": 24}
    assert config.trainer.run_dir == "runs/grpo"


def test_files_of_the_user_are_kept(folder: Path) -> None:
    (folder / "my_reward.py").write_text("mine = 1\n")
    assert dict(write_starter("grpo", folder, "model"))[folder / "my_reward.py"] is False
    assert (folder / "my_reward.py").read_text() == "mine = 1\n"
    with pytest.raises(ConfigError, match=r"grpo\.yaml is there already"):
        write_starter("grpo", folder, "model")


def test_a_stage_without_a_starter_is_refused_with_the_way_out(folder: Path) -> None:
    with pytest.raises(ConfigError, match="there are grpo, sft, dpo, eval"):
        write_starter("vit", folder, "model")


def test_the_model_is_the_one_that_is_asked_for(folder: Path) -> None:
    done = CliRunner().invoke(app, ["init", "sft", "--model", "Qwen/Qwen2.5-0.5B-Instruct", "--output", "mine"])
    assert done.exit_code == 0, done.output
    assert "path: Qwen/Qwen2.5-0.5B-Instruct" in (folder / "mine" / "sft.yaml").read_text()
