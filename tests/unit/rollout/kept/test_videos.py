"""The videos that stored rows show: copied once by content, whole, beside which moments were seen."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from pangu_rl.errors import DataError
from pangu_rl.records import Clip, Picture
from pretrain.processing.resize import PixelLimits
from pretrain.processing.video import Sampling
from pretrain.processing.video_frames import load_video
from rollout.kept.videos import copy_video
from rollout.store import RolloutStore
from tests.unit.data.vl_folder import draw
from tests.unit.pretrain.processing.drawn_videos import draw_video
from tests.unit.rollout.test_store import SAMPLING, group


@pytest.fixture
def media(tmp_path: Path) -> Path:
    root = draw_video(tmp_path / "media" / "v.mp4", range(0, 90, 3)).parent
    for index in range(3):
        draw(root / "frames" / f"{index}.png", 56, 56, seed=index)
    return root


def seen(media: Path, path: str) -> Picture:
    return load_video(path, media, Sampling(fps=1), PixelLimits(56**2, 56**2))


def shown(*pictures: Picture):
    drawn = group("p", [1.0, 0.0])
    drawn.pictures = pictures
    return drawn


def test_rows_name_copies_and_moments(tmp_path: Path, media: Path) -> None:
    runs = RolloutStore(tmp_path / "run", media)
    runs.append(1, [shown(seen(media, "v.mp4"), seen(media, "frames"))], SAMPLING)
    [row, _] = runs.read().to_table(["images", "videos"]).to_pylist()
    file, frames = row["videos"]
    content = (media / "v.mp4").read_bytes()
    assert row["images"] == [] and file["seconds"] == [0, 1, 2] and file["original"] == "v.mp4"
    assert file["path"] == f"videos/{hashlib.sha256(content).hexdigest()}.mp4"
    assert (runs.directory / file["path"]).read_bytes() == content
    kept = runs.directory / frames["path"]
    assert [path.name for path in sorted(kept.iterdir())] == ["0.png", "1.png", "2.png"]
    again = seen(runs.directory, frames["path"])
    assert (again.patches == seen(media, "frames").patches).all()


@pytest.mark.parametrize("path", ["v.mp4", "frames"])
def test_a_video_that_changed_is_not_kept_as_what_was_seen(tmp_path: Path, media: Path, path: str) -> None:
    picture = replace(seen(media, path), clip=Clip(sha256="0" * 64, seconds=(0.0,)))
    runs = RolloutStore(tmp_path / "run", media)
    with pytest.raises(DataError, match=rf"video '{path}' in .* has changed since the rollouts saw it"):
        runs.append(1, [shown(picture)], SAMPLING)
    runs.truncate_after(0)
    assert list((runs.directory / "videos").iterdir()) == []


def test_nothing_but_the_frames_is_copied_of_a_folder(tmp_path: Path, media: Path) -> None:
    """Hidden entries are no frames; one that leads out of the media root is refused, one within it is its content."""
    key = tmp_path / "id_rsa"
    key.write_text("secret", encoding="utf-8")
    (media / "frames/.x").symlink_to(key)
    (media / "frames/.y").symlink_to(tmp_path)
    (media / "frames/2.png").rename(media / "elsewhere.png")
    (media / "frames/2.png").symlink_to("../elsewhere.png")
    copy_video("frames", media, tmp_path / "copy")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["0.png", "1.png", "2.png"]
    copied = tmp_path / "copy/2.png"
    assert not copied.is_symlink() and copied.read_bytes() == (media / "elsewhere.png").read_bytes()
    (media / "frames/3.png").symlink_to(key)
    with pytest.raises(DataError, match=r"picture 'frames/3.png': leaves the media root"):
        copy_video("frames", media, tmp_path / "other")
    assert not (tmp_path / "other/3.png").exists()
