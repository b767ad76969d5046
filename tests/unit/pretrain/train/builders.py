"""A folder of rows with pictures of several sizes, and a stage over it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pangu_rl.config.load import checked
from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.config.sections.packing import PackingConfig
from pretrain.packing.online import StreamSample
from pretrain.packing.pack import pack_file
from pretrain.train.loader import FoundRow, PackLoader
from pretrain.train.measure import write_sizes
from pretrain.train.measured import Measure
from tests.unit.data.vl_folder import draw

SIZES = {"a": (56, 56), "b": (84, 112), "c": (140, 56), "d": (400, 300)}
"""Width and height; 4, 12, 10 and 140 tokens."""
WORDS = ("red", "a round blue thing on a table", "seven", "it is " + "very " * 12 + "green")


def write_rows(folder: Path, count: int = 24) -> Path:
    """Every third row is text; the others show one picture, or two. Sources are `text` and `vl`."""
    for seed, (name, size) in enumerate(SIZES.items()):
        draw(folder / "media" / f"{name}.png", *size, seed=seed)
    shown = [[], ["a.png"], ["b.png", "c.png"], [], ["d.png"], ["c.png"]]
    rows = [
        {
            "id": f"r{number:02d}",
            "prompt": f"What is number {number}?",
            "response": WORDS[number % 4],
            "images": shown[number % 6],
            "source": "vl" if shown[number % 6] else "text",
        }
        for number in range(count)
    ]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def stage(folder: Path, model: Path, /, **sections: dict[str, Any]) -> PretrainConfig:
    tree: dict[str, Any] = {
        "model": {"path": str(model)},
        "data": {"train": str(folder / "rows.jsonl"), "media_root": str(folder / "media")},
        "learner": {"pack_tokens": 256, "optimizer": {"lr": 1e-3}},
        "trainer": {"run_dir": str(folder / "run"), "steps": 4, "packs_per_step": 2},
        "monitoring": {"tensorboard": False},
        "cluster": {"object_store_gib": 0.1},
    }
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section
    return checked(PretrainConfig, tree, "test")


def plan(config: PretrainConfig, folder: Path, **settings: Any) -> Path:
    """Measure and pack the rows of `config` into `folder`/plan, for pictures as the tiny model shows them."""
    write_sizes(config, folder / "sizes.parquet")
    packing = PackingConfig(
        **{"context": config.learner.pack_tokens, "ranks": 1, "global_batch": config.trainer.packs_per_step}
        | {"min_pixels": 56 * 56, "max_pixels": 448 * 448}
        | settings
    )
    pack_file(folder / "sizes.parquet", folder / "plan", packing)
    return folder / "plan"


@dataclass
class MeasuredHere:
    """`Measured` without processes."""

    found: Sequence[StreamSample | str]
    rows: dict[int, FoundRow]

    def samples(self) -> Sequence[StreamSample | str]:
        return self.found


def measured_by(loader: PackLoader) -> Measure:
    """`Loaders.measure` of one loader in this process."""
    return lambda rows: MeasuredHere(*loader.measure(rows))


def measured_as(size: Callable[[int], StreamSample | str]) -> Measure:
    """Rows of made-up sizes."""
    return lambda rows: MeasuredHere(list(map(size, rows)), {})
