"""Where the SFT start lies: a function of what decides its weights, and of nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from pangu_rl.config.stages import GrpoConfig, SftConfig
from pangu_rl.errors import ConfigError
from pangu_rl.loops.online.start import start_identity, start_model
from tests.unit.data.vl_folder import draw


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


def test_identity_follows_the_rows_that_a_dataset_info_names(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text('{"x": {"file_name": "rows.jsonl"}}')
    found = set()
    for text in ("one", "two"):
        (tmp_path / "rows.jsonl").write_text(text)
        found.add(start_identity(sft(tmp_path / "dataset_info.json#x")))
    assert len(found) == 2


def test_identity_follows_what_the_base_model_holds(tmp_path: Path) -> None:
    """A base model that was made anew under its old path has no use for the start of the one before."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("one")
    config = sft(rows)
    config = config.model_copy(update={"model": config.model.model_copy(update={"path": str(tmp_path / "base")})})
    found = set()
    for value in (0.0, 1.0):
        (tmp_path / "base").mkdir(exist_ok=True)
        (tmp_path / "base" / "config.json").write_text("{}")
        save_file({"w": torch.full((2,), value)}, tmp_path / "base" / "model.safetensors")
        found |= {start_identity(config), start_identity(config)}
    assert len(found) == 2


def test_identity_follows_templates_tokenizers_and_folders_of_rows(tmp_path: Path) -> None:
    rows, base, template = tmp_path / "rows", tmp_path / "base", tmp_path / "t.jinja"
    rows.mkdir()
    base.mkdir()
    (base / "config.json").write_text("{}")
    save_file({"w": torch.zeros(2)}, base / "model.safetensors")
    config = sft(rows)
    model = config.model.model_copy(update={"path": str(base), "chat_template": str(template)})
    config = config.model_copy(update={"model": model})
    found = []
    for file in (rows / "a.parquet", template, base / "tokenizer.json", base / "preprocessor_config.json"):
        for content in "one", "two":
            file.write_text(content)
            found += [start_identity(config)]
    assert len(set(found)) == len(found)


def test_identity_follows_what_the_pictures_hold(tmp_path: Path) -> None:
    """Same name, same size in bytes, other pixels: another start. One that no row names does not count."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"images": ["a.bmp"]}\n{"images": ["gone.bmp"]}\n')
    media = tmp_path / "media"
    draw(media / "a.bmp", 8, 8, seed=1)
    config = sft(rows)
    config = config.model_copy(update={"data": config.data.model_copy(update={"media_root": str(media)})})
    first = start_identity(config)
    draw(media / "unnamed.bmp", 8, 8)
    assert start_identity(config) == first
    size = (media / "a.bmp").stat().st_size
    assert draw(media / "a.bmp", 8, 8, seed=2).stat().st_size == size
    second = start_identity(config)
    assert second != first
    draw(media / "gone.bmp", 8, 8)
    assert start_identity(config) not in (first, second)


def test_another_base_model_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "sft.yaml"
    file.write_text(yaml.safe_dump(sft(tmp_path / "rows.jsonl").model_dump(mode="json")))
    config = GrpoConfig.model_validate(
        {
            "model": {"path": "other"},
            "start": {"sft_config": str(file)},
            "data": {"train": "t"},
            "trainer": {"run_dir": "r", "steps": 1},
            "rollout": {"max_new_tokens": 1024, "max_model_tokens": 4096},
        }
    )
    with pytest.raises(ConfigError, match=r"starts from m, model\.path is other"):
        start_model(config)
