"""A decoder in a process of its own gives what one in this process gives; one that hangs or dies costs a row."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from pangu_rl.errors import DataError
from pretrain.processing import video_decoder
from pretrain.processing.resize import PixelLimits
from pretrain.processing.video import Sampling
from pretrain.processing.video_decoder import Decoder, cut_video, video_digest, video_header
from pretrain.processing.video_frames import check_video, load_video, read_header
from tests.unit.pretrain.processing.drawn_videos import draw_video

LIMITS = PixelLimits(56**2, 56**2)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    draw_video(folder / "clip.mp4", range(0, 240, 8))
    return folder


def test_what_comes_back_is_what_this_process_reads(root: Path) -> None:
    assert video_header("clip.mp4", root) == read_header("clip.mp4", root)
    assert video_digest("clip.mp4", root) == check_video("clip.mp4", root)
    there, here = cut_video("clip.mp4", root, Sampling(), LIMITS), load_video("clip.mp4", root, Sampling(), LIMITS)
    assert (there.sha256, there.grid, there.clip) == (here.sha256, here.grid, here.clip)
    assert (there.patches == here.patches).all() and there.patches.dtype == np.uint8


def test_what_is_wrong_with_a_video_comes_back_in_one_line(root: Path) -> None:
    (root / "text.mp4").write_text("no video at all")
    with pytest.raises(DataError, match=r"^video 'text.mp4': is no MP4, MOV, MKV, WebM or AVI$"):
        video_header("text.mp4", root)


def test_a_decoder_that_hangs_is_replaced(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Decoder()
    os.kill(decoder._process.pid, signal.SIGSTOP)
    video_decoder._idle().put(decoder)
    monkeypatch.setattr(video_decoder, "TIMEOUT_S", 0.2)
    with pytest.raises(DataError, match=r"video 'clip.mp4': took more than 0.2 s to decode"):
        video_header("clip.mp4", root)
    assert decoder._process.poll() is not None
    monkeypatch.undo()
    assert video_header("clip.mp4", root).frames == 30


def test_a_decoder_that_dies_is_replaced(root: Path) -> None:
    decoder = Decoder()
    decoder._process.kill()
    decoder._process.wait()
    video_decoder._idle().put(decoder)
    with pytest.raises(DataError, match=r"video 'clip.mp4': ended its decoder"):
        video_header("clip.mp4", root)
    assert video_header("clip.mp4", root).frames == 30
