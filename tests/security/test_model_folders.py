"""A model folder brings code of its own: it stays unread unless the configuration trusts it, whoever sits at the
terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.data.encoding import Encoder
from pangu_rl.errors import ConfigError
from pangu_rl.learner.measure.flops import loaded_config
from tests.unit.data.vl_folder import build_vl_folder

CODE = """
from pathlib import Path
Path({marker!r}).touch()
from transformers import PreTrainedTokenizerFast

class Brought(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def hostile(tmp_path: Path) -> tuple[Path, Path]:
    """A model folder whose tokenizer is code of its own, and the file that the code makes when it runs."""
    folder, marker = build_vl_folder(tmp_path / "model"), tmp_path / "ran"
    (folder / "brought.py").write_text(CODE.format(marker=str(marker)))
    path = folder / "tokenizer_config.json"
    named = {"auto_map": {"AutoTokenizer": [None, "brought.Brought"]}, "tokenizer_class": "Brought"}
    path.write_text(json.dumps(json.loads(path.read_text()) | named))
    return folder, marker


@pytest.fixture
def willing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Somebody at the terminal who answers every question with yes; returns what they were asked."""
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda prompt="": asked.append(prompt) or "y")
    return asked


def test_a_tokenizer_that_is_not_trusted_runs_no_code_and_asks_nobody(hostile, willing):
    folder, marker = hostile
    with pytest.raises(ConfigError, match=r"no usable tokenizer.*trust_remote_code") as refusal:
        Encoder(folder, trust_remote_code=ModelConfig(path=str(folder)).trust_remote_code)
    assert "\n" not in str(refusal.value)
    assert not marker.exists()
    assert not willing


def test_a_tokenizer_that_is_trusted_is_loaded(hostile, willing, monkeypatch, tmp_path):
    """The fixture does bring code that runs, so that the refusal above is one."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder, marker = hostile
    assert type(Encoder(folder, trust_remote_code=True).template.tokenizer).__name__ == "Brought"
    assert marker.exists()
    assert not willing


def test_a_configuration_that_is_not_trusted_runs_no_code(tmp_path, willing):
    marker = tmp_path / "ran"
    (tmp_path / "brought.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\n")
    brought = {"model_type": "brought", "auto_map": {"AutoConfig": "brought.Brought"}}
    (tmp_path / "config.json").write_text(json.dumps(brought))
    with pytest.raises(ValueError, match="trust_remote_code"):
        loaded_config(tmp_path, ModelConfig(path=str(tmp_path)).trust_remote_code)
    assert not marker.exists()
    assert not willing
