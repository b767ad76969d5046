"""The stage that packs for another: its plan is the one that `pangu-rl pack` makes, and the other trains by it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pangu_rl.errors import ConfigError
from pretrain.packing.plan_file import PlanReader
from pretrain.train.run import open_stage
from pretrain.train.run_pack import PLAN, SIZES, run_pack
from tests.unit.pretrain.train.builders import plan, stage, write_rows


def test_the_plan_is_that_of_the_command(tmp_path: Path, tiny_vl_model: Path) -> None:
    write_rows(tmp_path)
    config = stage(tmp_path, tiny_vl_model)
    folder = Path(config.trainer.run_dir)
    folder.mkdir()
    run_pack(config)
    by_hand = plan(config, tmp_path)
    for name in ("manifest.json", "packs.parquet"):
        assert (folder / PLAN / name).read_bytes() == (by_hand / name).read_bytes(), name
    before = (folder / SIZES).stat().st_mtime_ns
    run_pack(config)
    assert (folder / SIZES).stat().st_mtime_ns == before, "sizes were measured twice"


def test_shares_are_those_of_the_stage(tmp_path: Path, tiny_vl_model: Path) -> None:
    write_rows(tmp_path)
    config = stage(tmp_path, tiny_vl_model, data={"shares": {"text": 0, "vl": 1}}, trainer={"packs_per_step": 1})
    Path(config.trainer.run_dir).mkdir()
    run_pack(config)
    reader = PlanReader(Path(config.trainer.run_dir) / PLAN)
    assert reader.manifest["settings"]["shares"] == {"text": 0, "vl": 1}
    assert reader.manifest["samples"] <= 16, "two thirds of 24 rows show pictures"


def test_rows_without_a_media_root_are_packed_for_the_models_own_sizes(tmp_path: Path, tiny_vl_model: Path) -> None:
    """The tiny model shows pictures at 56 to 448 pixels a side, not at the papers' 56 to 1344."""
    rows = write_rows(tmp_path)
    texts = [line for line in rows.read_text().splitlines() if '"images": []' in line]
    rows.write_text("\n".join(texts) + "\n")
    stages = {"data": {"media_root": None}, "trainer": {"packs_per_step": 1}, "learner": {"pack_tokens": 64}}
    config = stage(tmp_path, tiny_vl_model, **stages)
    Path(config.trainer.run_dir).mkdir()
    run_pack(config)
    made = Path(config.trainer.run_dir) / PLAN
    assert PlanReader(made).manifest["settings"]["max_pixels"] == 448**2
    stages["data"] = stages["data"] | {"plan": str(made)}
    open_stage(stage(tmp_path, tiny_vl_model, **stages))


def test_rows_that_fill_no_step(tmp_path: Path, tiny_vl_model: Path) -> None:
    """Three short rows are one pack; sizes that are there are not measured again, on whatever ranks."""
    write_rows(tmp_path, count=3)
    Path(stage(tmp_path, tiny_vl_model).trainer.run_dir).mkdir()
    run_pack(stage(tmp_path, tiny_vl_model, trainer={"run_dir": str(tmp_path / "run")}))
    shutil.rmtree(tmp_path / "run" / PLAN)
    with pytest.raises(ConfigError, match=r"less than a pack of learner.pack_tokens 256 for each of 2 groups"):
        run_pack(stage(tmp_path, tiny_vl_model, learner={"ranks": 2, "pack_tokens": 256}))
