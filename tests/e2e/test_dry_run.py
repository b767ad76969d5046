"""Both papers' chains from their first stage to their last, on a CPU at a two-thousandth of the parameters: the files
are those of the full chain, and so are the names by which stages hand over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from data_curation.curate import curate
from pangu_rl.config.pipelines.graph import read_graph
from pangu_rl.config.pipelines.override_set import load_pipeline
from pangu_rl.loops.pipeline.run_pipeline import run_pipeline
from tests.contracts.source_tree import ROOT


def finished(tmp_path: Path, pipeline: str, miniature: str) -> dict:
    curate("few-rows")
    curate("mini-pangu-vl")
    config = load_pipeline(
        f"configs/pipeline/{pipeline}.yaml",
        [f"trainer.run_dir={tmp_path / 'run'}"],
        f"configs/overrides/{miniature}_miniature.yaml",
    )
    full = read_graph(load_pipeline(f"configs/pipeline/{pipeline}.yaml"))
    found = run_pipeline(config)["stages"]
    assert list(found) == [node.name for node in full if not node.is_evaluation], "stages of the full chain"
    for node in full:
        if not node.is_evaluation and node.name != "difficulty":
            taken = {
                key: entry["from"].split(".")[0] for key, entry in found[node.name]["inputs"].items() if "from" in entry
            }
            assert taken == {key: source.stage for key, source in node.takes.items()}, node.name
    return found


def weights(run: Path, found: dict, stage: str) -> dict:
    return load_file(run / found[stage]["outputs"]["model"]["path"] / "model.safetensors")


@pytest.mark.slow
def test_mindvl_from_its_parts_to_the_search_for_resolutions(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = finished(tmp_path, "mindvl_8b", "mindvl")
    start, warm = (weights(tmp_path / "run", found, stage) for stage in ("assembled", "warmup_mean"))
    moved = {name for name in start if not (start[name] == warm[name]).all()}
    assert moved and all(name.startswith("visual.merger.") for name in moved), "the adaptor alone"
    assert (tmp_path / "run" / "resolutions" / "resolutions.json").is_file()


@pytest.mark.slow
def test_openpangu_from_an_untrained_tower_to_the_mean(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = finished(tmp_path, "openpangu_7b", "openpangu")
    run = tmp_path / "run"
    aligned, joined = (weights(run, found, stage) for stage in ("align_encoder", "joined"))
    for name, tensor in joined.items():
        is_encoder = name.startswith(("visual.patch_embed.", "visual.blocks."))
        assert not is_encoder or (tensor == aligned[name]).all(), name
    assert any((joined[n] != aligned[n]).any() for n in joined if n.startswith("visual.vision_projection")), "a new one"
    branches = [weights(run, found, f"iterative_{one}") for one in ("grounding", "general", "stem")]
    mean = weights(run, found, "mean")
    name = "model.layers.0.mlp.down_proj.weight"
    expected = (sum(one[name].double() for one in branches) / 3).to(mean[name].dtype)
    assert (mean[name] == expected).all()
    pairs = json.loads((run / "pairs_general" / "manifest.json").read_text())
    assert pairs["queries"]["selected"] > 0
