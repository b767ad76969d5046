"""The search over picture sizes through the real command and a real engine: resumed by the cell, drawn, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from pangu_rl.monitoring.intervals import wilson
from tests.e2e.runs import REPO, metrics, run
from tests.unit.data.vl_folder import draw

SMALL, LARGE, HUGE = 4 * 784, 16 * 784, 1024 * 784
"""The tiny model's own processor ends at 256 tokens: under the last one a picture is beyond what its engine expects."""


def write_search(folder: Path, model: Path, **sections: dict[str, Any]) -> Path:
    """Twelve rows with pictures of 4 and 600 tokens; `dev` are the first six of them, `test` the others."""
    for seed, (name, size) in enumerate({"a": (56, 56), "b": (1120, 420)}.items()):
        draw(folder / "media" / f"{name}.png", *size, seed=seed)
    rows = [
        {
            "id": f"p{i}",
            "prompt": f"Which, {i}?",
            "answer": "1",
            "images": ["ab"[i % 2] + ".png"],
            "source": "ab"[i % 2],
        }
        for i in range(12)
    ]
    for name, part in (("dev", rows[:6]), ("test", rows[6:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    tree: dict[str, Any] = {
        "model": {"path": str(model)},
        "data": {
            "sets": {name: str(folder / f"{name}.jsonl") for name in ("dev", "test")},
            "media_root": str(folder / "media"),
            "max_prompt_tokens": 700,
        },
        "resolutions": {"min_pixels": [SMALL, LARGE], "max_pixels": [LARGE, HUGE], "choose_on": "dev"},
        "rollout": {"max_new_tokens": 8, "max_model_tokens": 768, "kv_cache_gib": 0.1, "max_concurrent": 16},
        "rewards": {"functions": [{"name": f"{REPO}/tests/e2e/drawn_score.py:drawn"}]},
        "trainer": {"run_dir": str(folder / "run")},
        "monitoring": {"tensorboard": False},
        "cluster": {"object_store_gib": 0.1},
    }
    for name, section in sections.items():
        tree[name] = tree[name] | section
    path = folder / "search.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def searched(tiny_vl_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    done = run("eval", write_search(folder, tiny_vl_model), "--json")
    assert done.returncode == 0, done.stderr
    (folder / "stdout.json").write_text(done.stdout)
    (folder / "stderr.txt").write_text(done.stderr)
    return folder


def test_every_pair_is_evaluated_with_pictures_of_its_sizes(searched: Path) -> None:
    """Pictures of 4 and 40 x 15 tokens. A least area of 16 tokens enlarges the first, a greatest one of 16 shrinks the
    second to 6 x 2: means of 8, 302, 14 and 308 tokens."""
    result = json.loads((searched / "stdout.json").read_text())
    assert result == json.loads((searched / "run" / "resolutions.json").read_text())
    pairs = [(cell["min_pixels"], cell["max_pixels"], cell["picture_tokens"]) for cell in result["cells"]]
    assert pairs == [(SMALL, LARGE, 8.0), (SMALL, HUGE, 302.0), (LARGE, LARGE, 14.0), (LARGE, HUGE, 308.0)]
    for cell in result["cells"]:
        assert [figures["items"] for figures in cell["sets"].values()] == [6, 6]
        assert set(cell["sets"]["dev"]["sources"]) == {"a", "b"}
    assert [row["step"] for row in metrics(searched / "run")] == [1, 2, 3, 4]


def test_the_best_on_one_set_is_reported_on_the_other(searched: Path) -> None:
    result = json.loads((searched / "stdout.json").read_text())
    best = max(cell["sets"]["dev"]["accuracy"] for cell in result["cells"])
    assert result["best"]["sets"]["dev"]["accuracy"] == best and result["chosen_on"] == "dev"
    found = result["best"]["sets"]["test"]
    assert (found["low"], found["high"]) == pytest.approx(wilson(round(found["accuracy"] * 6), 6))
    assert result["warning"] == ""
    saved = json.loads((searched / "run" / "evaluations.json").read_text())
    assert [sum(one["correct"].values()) / 6 for one in saved] == [best, found["accuracy"]]
    said = (searched / "stderr.txt").read_text()
    assert "best on dev: min_pixels" in said and "4*28²" in said
    with Image.open(searched / "run" / "resolutions.png") as image:
        assert image.width > image.height > 100


def test_the_same_command_evaluates_only_what_is_missing(searched: Path, tiny_vl_model: Path) -> None:
    """A cell is taken away, then none is: no engine starts for nothing, and the result is the same."""
    before = (searched / "run" / "resolutions.json").read_bytes()
    cells = {path: path.stat().st_mtime_ns for path in (searched / "run" / "cells").iterdir()}
    gone = searched / "run" / "cells" / f"{LARGE}_{LARGE}.json"
    gone.unlink()
    config = write_search(searched, tiny_vl_model)
    done = run("eval", config)
    assert done.returncode == 0, done.stderr
    assert (searched / "run" / "resolutions.json").read_bytes() == before
    kept = {path: path.stat().st_mtime_ns for path in (searched / "run" / "cells").iterdir()}
    assert kept.keys() == cells.keys() and [path for path in cells if kept[path] != cells[path]] == [gone]
    # A fake engine would answer otherwise: that the settings are compared first shows that it is not asked.
    settings = (searched / "run" / "config.yaml").read_bytes()
    done = run("eval", config, "rollout.max_new_tokens=9")
    assert done.returncode == 2, done.stderr
    assert (searched / "run" / "config.yaml").read_bytes() == settings
    assert "was begun with rollout.max_new_tokens 8, now it is 9" in done.stderr


@pytest.mark.slow
def test_a_choice_on_all_that_is_reported_is_said_to_be_optimistic(searched: Path, tiny_vl_model: Path) -> None:
    """And pairs that show every picture alike are evaluated once: all cells are there, so none is now."""
    before = metrics(searched / "run")
    config = write_search(
        searched, tiny_vl_model, resolutions={"choose_on": None, "max_pixels": [LARGE, HUGE, 2 * HUGE]}
    )
    done = run("eval", config, "rollout.engine=vllm", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["chosen_on"] == "all sets" and "is optimistic" in result["warning"]
    assert "is optimistic" in " ".join(done.stderr.split())
    assert len(result["cells"]) == 6
    for huge, larger in ((1, 2), (4, 5)):
        assert result["cells"][huge]["sets"] == result["cells"][larger]["sets"]
    assert metrics(searched / "run") == before


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"resolutions": {"min_pixels": [HUGE]}},
            f"min_pixels {HUGE} exceeds max_pixels {LARGE}: leave one of them out",
        ),
        ({"data": {"max_prompt_tokens": 60}}, "data.max_prompt_tokens is 60"),
    ],
)
def test_bad_input_is_one_line(tiny_vl_model: Path, tmp_path: Path, sections: dict, message: str) -> None:
    done = run("eval", write_search(tmp_path, tiny_vl_model, **sections))
    assert done.returncode == 2, done.stderr
    assert message in " ".join(done.stderr.split()) and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_model_without_pictures_has_nothing_to_search(tiny_model: Path, tmp_path: Path) -> None:
    config = write_search(tmp_path, tiny_model)
    for name in ("dev", "test"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": "1?", "answer": "1"}) + "\n")
    done = run("eval", config)
    assert done.returncode == 2 and "no row of data.sets has a picture" in done.stderr
