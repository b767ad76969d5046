"""What is read of benchmarks before an engine starts: picture sizes of each, and rows that cannot be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pangu_rl.config.evaluation import EvalConfig
from pangu_rl.config.load import checked
from pangu_rl.errors import ConfigError, RunError
from pangu_rl.loops.evaluation.benchmark_inputs import read_benchmarks
from pretrain.processing.resize import PixelLimits
from tests.contracts.source_tree import ROOT
from tests.e2e.test_benchmarks import SMALL, write_files

BENCHMARKS = ROOT / "configs" / "eval" / "benchmarks"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANGU_RL_CACHE", str(tmp_path / "cache"))


def config(folder: Path, model: Path, **data: Any) -> EvalConfig:
    files = {"chartqa": "chartqa.parquet", "mmbench": "mmbench.tsv"}
    benchmarks = {
        name: {"definition": str(BENCHMARKS / f"{name}.yaml"), "file": str(folder / file), **SMALL}
        for name, file in files.items()
    }
    benchmarks["mmbench"]["max_pixels"] = benchmarks["mmbench"]["min_pixels"]
    tree = {
        "model": {"path": str(model)},
        "data": {"benchmarks": benchmarks, "max_prompt_tokens": 256} | data,
        "rollout": {"max_new_tokens": 8, "max_model_tokens": 320},
        "trainer": {"run_dir": str(folder / "run")},
    }
    return checked(EvalConfig, tree, "test")


def test_each_benchmark_has_its_sizes_and_the_engine_the_largest(tiny_vl_model: Path, tmp_path: Path) -> None:
    write_files(tmp_path)
    sets, inputs = read_benchmarks(config(tmp_path, tiny_vl_model))
    assert [(one.name, one.limits, len(one.rows.prompts)) for one in sets] == [
        ("chartqa", PixelLimits(**SMALL), 4),
        ("mmbench", PixelLimits(SMALL["min_pixels"], SMALL["min_pixels"]), 4),
    ]
    assert inputs.limits == PixelLimits(**SMALL) and not inputs.skipped
    assert {name: len(prompts) for name, prompts in inputs.sets.items()} == {"chartqa": 4, "mmbench": 4}


def test_bad_rows_are_named_and_end_the_run_above_the_limit(tiny_vl_model: Path, tmp_path: Path) -> None:
    write_files(tmp_path)
    path = tmp_path / "mmbench.tsv"
    path.write_text(path.read_text().replace('"A"\t"colour"', '"E"\t"colour"'))
    sets, inputs = read_benchmarks(config(tmp_path, tiny_vl_model, max_bad_share=0.25))
    assert len(sets[1].rows.prompts) == 3 and len(inputs.skipped) == 1
    with pytest.raises(RunError, match=r"mmbench: 1 of 4 rows cannot be asked, above .* 0\.05: .*row 1: answer"):
        read_benchmarks(config(tmp_path, tiny_vl_model))


def test_pictures_that_do_not_decode_are_bad_rows(tiny_vl_model: Path, tmp_path: Path) -> None:
    write_files(tmp_path)
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "cut.png").write_bytes((tmp_path / "0.png").read_bytes()[:200])
    path = tmp_path / "mmbench.tsv"
    lines = path.read_text().splitlines(keepends=True)
    for name in ("cut.png", "gone.png"):
        fields = lines[1].rstrip("\n").split("\t")
        lines[1] = "\t".join([*fields[:-1], f'"{name}"']) + "\n"
        path.write_text("".join(lines))
        with pytest.raises(ConfigError, match=r"data\.media_root is not set"):
            read_benchmarks(config(tmp_path, tiny_vl_model))
        with pytest.raises(RunError, match=f"mmbench: 2 of 4 rows cannot be asked.*{name}"):
            read_benchmarks(config(tmp_path, tiny_vl_model, media_root=str(tmp_path / "media")))
