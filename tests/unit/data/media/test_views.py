"""What a row shows: rates by task, seed and id, the budget over all frames, and plain words where it does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pangu_rl.checkpoint.model_folder import model_config
from pangu_rl.data.encoding import Encoder
from pangu_rl.data.pictures import PictureFolder
from pangu_rl.data.prompts import parse_prompt
from pangu_rl.errors import ConfigError, DataError
from pangu_rl.records import Prompt
from pretrain.families import family_of
from pretrain.processing.video import draw_fps
from tests.unit.data.vl_folder import END, PAD, START, VIDEO, build_vl_folder, draw
from tests.unit.pretrain.processing.drawn_videos import draw_video

QWEN = {"model_type": "qwen2_vl", "vision_config": {"spatial_merge_size": 2, "temporal_patch_size": 2}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_vl_folder(tmp_path_factory.mktemp("vl"))


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    draw_video(folder / "six.mp4", range(0, 240, 4))  # 60 frames at 10 a second: 5.9 s
    draw_video(folder / "ten.mp4", range(0, 200, 2))  # 9.9 s
    draw(folder / "a.png", 56, 56)
    return folder


def folder(media: Path, model: Path, seed: int | None = 0) -> PictureFolder:
    return PictureFolder(str(media), model, family_of(model_config(model), model), seed=seed)


def row(uid: str = "u", **columns: object) -> Prompt:
    return parse_prompt({"prompt": "what?", "answer": "1", **columns}, uid)


def frames(folder: PictureFolder, row: Prompt) -> list[int]:
    return [picture.grid[0] for picture in folder.outlines(row)]


def test_a_time_is_looked_for_once_a_second(media: Path, model: Path) -> None:
    [clip] = folder(media, model).views(row(videos=["six.mp4"], time_precise=True))
    shown = folder(media, model).shown(clip)
    assert shown.clip.seconds == (0, 1, 2, 3, 4, 5) and shown.grid == (6, 4, 4)


def test_other_rates_are_drawn_from_seed_and_id(media: Path, model: Path) -> None:
    """The video of 5.9 s has floor(5.9 fps) + 1 frames, 8 of which the budget has."""
    for seed in (0, 1):
        for uid in "abcdefgh":
            [found] = frames(folder(media, model, seed), row(uid, videos=["six.mp4"]))
            assert found == min(8, int(5.9 * draw_fps(seed, uid)) + 1)
    counts = {frames(folder(media, model), row(f"row {n}", videos=["six.mp4"]))[0] for n in range(40)}
    assert len(counts) > 3


def test_without_a_seed_the_rate_is_the_released_one(media: Path, model: Path) -> None:
    """Twice a second: 2.0, 2.5, 3.0 s of a part that ends before 3.5; 8 frames of the budget over all of 5.9 s."""
    pictures = folder(media, model, None)
    part = replace(row(videos=["six.mp4"]), video_span=(2.0, 3.4))
    assert [pictures.shown(view).clip.seconds for view in pictures.views(part)] == [(2.0, 2.5, 3.0)]
    assert frames(pictures, part) == [3] and frames(pictures, row(videos=["six.mp4"])) == [8]


def test_a_part_that_is_not_there_is_a_bad_row(media: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"video 'six.mp4': is asked about from 6 to 9 s, of 5\.9 s"):
        folder(media, model, None).views(replace(row(videos=["six.mp4"]), video_span=(6.0, 9.0)))
    draw(tmp_path / "frames" / "1.png", 56, 56)
    with pytest.raises(DataError, match=r"from 0 to 1 s and is a folder of frames, whose seconds are not known"):
        folder(tmp_path, model, None).views(replace(row(videos=["frames"]), video_span=(0.0, 1.0)))


def test_a_folder_of_frames_of_a_known_rate_is_looked_at_as_a_video(model: Path, tmp_path: Path) -> None:
    """21 frames, 3 a second, of 6.67 s, named so that their order is not that of the numbers' digits. Twice a second
    from 2 to 4 s: at 2.0, 2.5, ..., 4.0 s, the frames nearest to 6, 7.5, 9, 10.5 and 12, a half to the even one."""
    for number in range(1, 22):
        draw(tmp_path / "clip" / f"{number:05d}.png", 56, 56, number)
    pictures, asked = folder(tmp_path, model, None), replace(row(videos=["clip"]), video_fps=3.0)
    [view] = pictures.views(part := replace(asked, video_span=(2.0, 4.0)))
    shown = pictures.shown(view)
    assert shown.clip.seconds == (2.0, 2.667, 3.0, 3.333, 4.0) and frames(pictures, part) == [5]
    alone = [pictures.load(f"clip/{index + 1:05d}.png").patches for index in (6, 8, 9, 10, 12)]
    assert (shown.patches == np.concatenate(alone)).all()
    [once] = pictures.views(replace(asked, time_precise=True))
    assert pictures.shown(once).clip.seconds == (0, 1, 2, 3, 4, 5, 6)
    assert pictures.size(once) == (56, 56, 7, pytest.approx(20 / 3))
    with pytest.raises(DataError, match=r"video 'clip': is asked about from 6\.7 to 9 s, of 6\.67 s"):
        pictures.views(replace(asked, video_span=(6.7, 9.0)))


def test_outline_and_frames_agree_in_order_of_places(media: Path, model: Path) -> None:
    asked = row(prompt="<video> or <image> or <video>?", videos=["six.mp4", "ten.mp4"], images=["a.png"])
    pictures = folder(media, model)
    outlines, shown = pictures.outlines(asked), [pictures.shown(view) for view in pictures.views(asked)]
    assert [picture.path for picture in shown] == ["six.mp4", "a.png", "ten.mp4"]
    assert [picture.grid for picture in outlines] == [picture.grid for picture in shown]
    assert [picture.clip is None for picture in outlines] == [picture.clip is None for picture in shown]
    for picture in shown:
        assert picture.patches.shape == (np.prod(picture.grid), 588)
    assert sum(picture.grid[0] for picture in shown if picture.clip) <= 8, "one budget for both"


def test_a_row_in_ids_and_positions(media: Path, model: Path) -> None:
    """Frames of 4 tokens stand between marks; each begins two behind the longer side of the one before: 2 + 2."""
    encoder = Encoder(model)
    asked = row(videos=["six.mp4"], time_precise=True)
    encoded = encoder.prompt(asked.messages, folder(media, model).outlines(asked))
    ids = list(encoded.token_ids)
    first = ids.index(START)
    assert ids[first : first + 36] == [START, VIDEO, VIDEO, VIDEO, VIDEO, END] * 6 and PAD not in ids
    begins = encoded.positions[0, first + 1 : first + 36 : 6]
    assert (np.diff(begins) == 4).all() and len(begins) == 6


def test_longer_than_the_budget_is_a_bad_row(media: Path, model: Path) -> None:
    with pytest.raises(DataError, match=r"video 'ten.mp4': 9 frames at 1 a second, the budget of a sample has 8: cut"):
        folder(media, model).views(row(videos=["ten.mp4"], time_precise=True))
    with pytest.raises(
        DataError, match=r"video 'six.mp4', video 'six.mp4', .*: 9 frames at .*, the budget .* has 8: split"
    ):
        folder(media, model).views(row(videos=["six.mp4"] * 9))


def test_what_videos_need_is_said(media: Path, model: Path, tmp_path: Path) -> None:
    asked = row(videos=["six.mp4"])
    with pytest.raises(ConfigError, match=r"key videos names six.mp4, and data.media_root is not set"):
        PictureFolder(None, model, family_of(model_config(model), model)).views(asked)
    with pytest.raises(ConfigError, match=r"key videos names six.mp4, and model.path .* is"):
        PictureFolder(str(media), model, None).views(asked)
    blind = PictureFolder(str(media), model, family_of({**model_config(model), **QWEN}, model))
    with pytest.raises(ConfigError, match="videos of a qwen2_vl are not known"):
        blind.views(asked)


def test_the_audit_names_a_video_that_does_not_decode(media: Path, model: Path, tmp_path: Path) -> None:
    content = (media / "six.mp4").read_bytes()
    (media / "cut.mp4").write_bytes(content[: len(content) // 2])
    audit = folder(media, model).audit([row(videos=["cut.mp4"]), row(videos=["six.mp4"], images=["a.png"])])
    assert list(audit.problems) == ["cut.mp4"] and set(audit.digests) == {"six.mp4", "a.png"}
    assert "video 'cut.mp4': " in audit.problem(row(videos=["cut.mp4"]))
