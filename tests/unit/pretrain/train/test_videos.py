"""Rows with videos in pre-training: sizes, plan and loader say the same of each, to the token."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pangu_rl.config.paths import resolve_path
from pangu_rl.data.files.row_files import open_rows
from pangu_rl.errors import ConfigError, DataError
from pretrain.packing.metadata import read_metadata
from pretrain.packing.pack import pack_file
from pretrain.processing.video import draw_fps
from pretrain.train.loader import PackLoader
from pretrain.train.measure import write_sizes
from pretrain.train.order import PackOrder
from pretrain.train.run import open_stage
from pretrain.train.run_pack import packing_of
from tests.unit.data.vl_folder import build_vl_folder, draw
from tests.unit.pretrain.processing.drawn_videos import draw_video
from tests.unit.pretrain.train.builders import stage

SECONDS = {"short": 0.9, "middle": 2.4, "long": 5.9}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_vl_folder(tmp_path_factory.mktemp("vl"))


def write_mixed_rows(folder: Path, count: int) -> Path:
    """Text, pictures, one video or two, both, documents, times: each of a drawn length."""
    media = folder / "media"
    for index, (name, seconds) in enumerate(SECONDS.items()):
        draw_video(media / f"{name}.mp4", [20 * index] * int(10 * seconds + 1), size=(64 + 32 * index, 48))
    draw(media / "a.png", 84, 112)
    for index in range(3):
        draw(media / "frames" / f"{index}.png", 70, 50, seed=index)
    rng = random.Random(0)
    videos = [*(f"{name}.mp4" for name in SECONDS), "frames"]
    rows = []
    for number in range(count):
        shown = {
            "videos": rng.choices(videos, k=rng.choice((0, 1, 1, 2))),
            "images": ["a.png"] * rng.choice((0, 0, 1, 2)),
        }
        said = " ".join(["thing"] * rng.randint(1, 20))
        row = {"id": f"r{number}", "source": "vl", **{key: files for key, files in shown.items() if files}}
        if number % 5 == 0:
            row |= {"document": said}
        else:
            row |= {"prompt": "What is seen?", "response": said}
        if row.get("videos") and rng.random() < 0.3:
            row |= {"videos": row["videos"][:1], "time_precise": True}
        rows.append(row)
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_plan_and_loader_agree_to_the_token(tmp_path: Path, model: Path) -> None:
    write_mixed_rows(tmp_path, 1000)
    config = stage(tmp_path, model, trainer={"seed": 7})
    assert write_sizes(config, tmp_path / "sizes.parquet") == 1000
    planned = read_metadata(tmp_path / "sizes.parquet", packing_of(config))
    files = open_rows(resolve_path(config.data.train), on_bad_row="refuse", media_root=config.data.media_path())
    loader = PackLoader(config, files)
    packs, counts = loader.load([PackOrder(rows=(index,), load=0) for index in range(1000)])
    assert [pack.num_tokens for pack in packs] == planned.tokens.tolist()
    assert [len(pack.picture_tokens) for pack in packs] == planned.visual_tokens.tolist()
    frames = [sum(picture.grid[0] for picture in pack.pictures if picture.clip) for pack in packs]
    sizes = pq.read_table(tmp_path / "sizes.parquet").to_pylist()
    assert frames == [sum(row["frames"]) for row in sizes] and sum(frames) > 1000
    assert counts.tokens == planned.tokens.sum() and max(frames) <= 8


def test_frames_and_seconds_are_in_the_sizes(tmp_path: Path, model: Path) -> None:
    """2.4 s at 10 frames a second; the rate is that of the stage's seed and the row."""
    write_mixed_rows(tmp_path, 1)
    shown = {"videos": ["middle.mp4"], "images": ["a.png"], "document": "so"}
    (tmp_path / "rows.jsonl").write_text(json.dumps({"id": "one", **shown}) + "\n")
    write_sizes(stage(tmp_path, model, trainer={"seed": 3}), tmp_path / "sizes.parquet")
    [row] = pq.read_table(tmp_path / "sizes.parquet").to_pylist()
    assert (row["width"], row["height"]) == ([84, 96], [112, 48])
    assert row["frames"] == [0, int(2.4 * draw_fps(3, "one")) + 1]
    assert row["duration"] == pytest.approx([0, 2.4])


def test_a_plan_of_videos_is_for_their_budget_and_the_seed_of_their_frames(tmp_path: Path, model: Path) -> None:
    write_mixed_rows(tmp_path, 12)
    config = stage(tmp_path, model, trainer={"seed": 7, "packs_per_step": 1})
    write_sizes(config, tmp_path / "sizes.parquet")
    packing = packing_of(config)
    for name, budget in (("plan", {}), ("other", {"video_pixels": 7 * 56 * 56})):
        pack_file(tmp_path / "sizes.parquet", tmp_path / name, packing.model_copy(update=budget))

    def opened(name: str, seed: int) -> None:
        trainer = {"seed": seed, "packs_per_step": 1}
        config = stage(tmp_path, model, data={"plan": str(tmp_path / name)}, trainer=trainer)
        open_stage(config)

    opened("plan", 7)
    with pytest.raises(ConfigError, match=r"drawn by trainer\.seed 7, the stage's is 8: set it to 7, or measure"):
        opened("plan", 8)
    with pytest.raises(ConfigError, match=r"with video_pixels 21952, the processor of model\.path says 25088: pack"):
        opened("other", 7)


def test_a_video_that_cannot_be_used_is_named_and_counted(tmp_path: Path, model: Path) -> None:
    write_mixed_rows(tmp_path, 1)
    media = tmp_path / "media"
    content = (media / "long.mp4").read_bytes()
    (media / "cut.mp4").write_bytes(content[: len(content) // 2])
    draw_video(media / "hours.mp4", [0] * 120)
    rows = [
        {"id": "cut", "document": "a", "videos": ["cut.mp4"]},
        {"id": "sound", "document": "a", "videos": ["short.mp4"]},
        {"id": "hours", "document": "a", "videos": ["hours.mp4"], "time_precise": True},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = stage(tmp_path, model, data={"on_bad_row": "skip"})
    files = open_rows(resolve_path(config.data.train), on_bad_row="skip", media_root=media)
    [pack], counts = PackLoader(config, files).load([PackOrder(rows=(0, 1, 2), load=0)])
    assert counts.seen.samples == {"": 1} and len(pack.pictures) == 1
    cut, hours = counts.skipped
    assert "rows.jsonl, row 1 (cut): video 'cut.mp4': " in cut
    assert "rows.jsonl, row 3 (hours): video 'hours.mp4': 9 frames at 1 a second, the budget of a sample has 8" in hours
    with pytest.raises(
        DataError, match=r"rows.jsonl, row 1 \(cut\): video 'cut.mp4': .*mend it, or set data.on_bad_row"
    ):
        PackLoader(stage(tmp_path, model), files).load([PackOrder(rows=(0,), load=0)])
    assert np.isfinite(pack.position_ids).all()
