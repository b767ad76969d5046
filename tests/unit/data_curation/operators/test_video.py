"""Videos become clips that end where shots change, of frames that differ."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_curation.operators.video._shots import clips_of, difference, thumbnail
from data_curation.operators.video.video_clips import video_clips
from data_curation.pipeline.record import Record
from pangu_rl.data.fields.bad_row import BadRow
from tests.unit.data_curation.operators.pictures import scene


def test_clips_end_at_the_change_of_shot_that_is_nearest_to_their_length() -> None:
    """At 30 s: of cuts at 12, 20, 44 and 46 the one at 20 is 10 away and that at 44 is 14. From 20 on, 44 and 46 are 6
    and 4 away from 50. The rest, 46 to 60, is less than half and joins."""
    assert clips_of([12.0, 20.0, 44.0, 46.0], 60.0, 30.0) == [(0.0, 20.0), (20.0, 60.0)]
    assert clips_of([12.0, 20.0, 44.0, 46.0], 70.0, 30.0) == [(0.0, 20.0), (20.0, 46.0), (46.0, 70.0)]
    assert clips_of([], 100.0, 30.0) == [(0.0, 30.0), (30.0, 60.0), (60.0, 100.0)]
    assert clips_of([5.0, 95.0], 100.0, 30.0)[:1] == [(0.0, 30.0)]
    assert clips_of([], 12.0, 30.0) == [(0.0, 12.0)] and clips_of([], 70.0, 30.0)[-1] == (30.0, 70.0)


def test_hue_goes_round() -> None:
    """Red at hue 0 and at hue 179 are one step of 180 apart: a third of it over three channels."""
    reds = [np.full((40, 40, 3), hsv, np.uint8) for hsv in ((0, 255, 255), (179, 255, 255), (90, 255, 255))]
    first, second, cyan = (thumbnail(cv2.cvtColor(one, cv2.COLOR_HSV2RGB)) for one in reds)
    assert difference(first, second) <= 1 and difference(first, cyan) == pytest.approx(30, abs=0.5)


def film(path: Path) -> None:
    """At 10 frames a second: a still shot of 4 s, another one of 4 s in which each second is another picture."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (160, 96))
    dark, bright = (np.full((96, 160, 3), level, np.uint8) for level in (20, 200))
    dark[:, :80], bright[30:60, 40:120] = 60, 20
    for number in range(80):
        second = number // 10
        moved = bright.copy()
        moved[:, 30 * (second - 4) : 30 * (second - 3)] = 20
        writer.write(dark if second < 4 else moved)
    writer.release()


def test_a_video_becomes_clips_of_frames_that_differ(tmp_path: Path) -> None:
    film(tmp_path / "v.mp4")
    record = Record({"id": "v", "videos": ["v.mp4"], "source": "films"}, "v", "", tmp_path)
    still, moving = video_clips(record, seconds=4.0, most_side=64).rows
    assert still["clip"] == {"video": "v.mp4", "begin": 0.0, "end": 4.0, "seconds": [0.0]}
    assert moving["clip"] == {"video": "v.mp4", "begin": 4.0, "end": 8.0, "seconds": [4.0, 5.0, 6.0, 7.0]}
    assert "videos" not in still and still["source"] == "films" and json.dumps(moving)
    shown = Record(moving, "m", "", tmp_path)
    assert len(shown.images) == 4 and shown.picture(shown.images[0]).size == (64, 38)
    few = video_clips(record, seconds=4.0, most_frames=2).rows[1]
    assert few["clip"]["seconds"] == [4.0, 7.0]
    twice = video_clips(record, seconds=4.0, fps=2.0).rows[1]
    assert twice["clip"]["seconds"] == [4.0, 5.0, 6.0, 7.0]  # half a second later nothing is new
    (tmp_path / "b.mp4").write_bytes((tmp_path / "v.mp4").read_bytes()[:100])
    assert video_clips(Record({"videos": ["b.mp4"]}, "b", "", tmp_path)).reason == "broken video"
    assert video_clips(Record({"text": "none"}, "n", "", tmp_path)) is None
    with pytest.raises(BadRow, match="names 2 videos"):
        video_clips(Record({"videos": ["v.mp4", "b.mp4"]}, "t", "", tmp_path))


def test_frames_of_a_folder_are_a_second_apart(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for number in range(4):
        scene(number // 2).save(tmp_path / f"frames/{number}.png")
    row = video_clips(Record({"videos": ["frames"]}, "f", "", tmp_path)).rows[0]
    assert row["clip"]["seconds"] == [0.0, 2.0]
