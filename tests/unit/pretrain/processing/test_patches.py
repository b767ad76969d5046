"""The order of patches worked by hand, and transformers' own processor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from pangu_rl.errors import DataError
from pretrain.processing.patches import load_picture, resized, to_patches
from pretrain.processing.resize import TRAINING, PixelLimits

MEAN = np.array((0.48145466, 0.4578275, 0.40821073), np.float32)
STD = np.array((0.26862954, 0.26130258, 0.27577711), np.float32)


def pixels(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_rows_run_cell_by_cell_and_columns_channel_by_channel() -> None:
    """56 x 84 pixels are 4 x 6 patches in 2 x 3 cells. Each pixel spells where it is: red its patch row, green its
    patch column, blue its place inside the patch."""
    y, x = np.mgrid[:56, :84]
    rgb = np.stack([y // 14, x // 14, y % 14 * 14 + x % 14], axis=2).astype(np.uint8)
    patches = to_patches(rgb)
    assert patches.shape == (24, 588) and patches.dtype == np.uint8
    assert patches[:, [0, 196]].tolist() == [
        *([0, 0], [0, 1], [1, 0], [1, 1]),  # first cell
        *([0, 2], [0, 3], [1, 2], [1, 3]),  # to its right
        *([0, 4], [0, 5], [1, 4], [1, 5]),
        *([2, 0], [2, 1], [3, 0], [3, 1]),  # second row of cells
        *([2, 2], [2, 3], [3, 2], [3, 3]),
        *([2, 4], [2, 5], [3, 4], [3, 5]),
    ]
    assert (patches[:, 392:] == np.arange(196)).all()


def test_frames_follow_each_other() -> None:
    frames = np.stack([pixels(56, 28, seed) for seed in range(3)])
    assert (to_patches(frames) == np.concatenate([to_patches(frame) for frame in frames])).all()


def test_one_copy_and_no_other() -> None:
    patches = to_patches(pixels(56, 56))
    assert patches.flags.c_contiguous and patches.flags.writeable and patches.base.base is None


@pytest.mark.parametrize(("height", "width"), [(56, 56), (84, 140), (280, 56), (448, 336), (500, 333), (29, 1000)])
def test_equals_transformers_after_doubling_and_normalising(height: int, width: int) -> None:
    """Also at sizes that both must resize first: both let Pillow do it. The tolerance is fp32 rounding: theirs rescales
    and normalises in two steps, and values reach 2.2."""
    rgb = pixels(height, width)
    theirs = Qwen2VLImageProcessorPil(min_pixels=TRAINING.min_pixels, max_pixels=TRAINING.max_pixels)(rgb)
    ours = to_patches(resized(Image.fromarray(rgb), TRAINING)).reshape(-1, 3, 1, 196).astype(np.float32)
    normal = (ours - 255 * MEAN[:, None, None]) / (255 * STD[:, None, None])
    doubled = np.broadcast_to(normal, (len(ours), 3, 2, 196)).reshape(-1, 1176)
    np.testing.assert_allclose(doubled, theirs["pixel_values"], rtol=0, atol=2e-6)


def test_the_payload_is_an_eighth_of_transformers() -> None:
    rgb = pixels(448, 448)
    theirs = Qwen2VLImageProcessorPil()(rgb)["pixel_values"]
    assert theirs.nbytes == 8 * to_patches(rgb).nbytes == 8 * 1024 * 588


def test_a_file_becomes_a_picture_of_its_grid(tmp_path: Path) -> None:
    rgb = pixels(60, 115)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    picture = load_picture("a.png", tmp_path, TRAINING)
    assert picture.path == "a.png" and picture.grid == (1, 4, 8) and picture.tokens == 8
    bicubic = Image.fromarray(rgb).resize((112, 56), Image.Resampling.BICUBIC)
    assert (picture.patches == to_patches(np.asarray(bicubic))).all()


def test_a_picture_of_whole_tokens_is_not_resampled(tmp_path: Path) -> None:
    rgb = pixels(84, 56)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    assert (load_picture("a.png", tmp_path, TRAINING).patches == to_patches(rgb)).all()


def test_a_thin_picture_is_enlarged_first(tmp_path: Path) -> None:
    Image.fromarray(pixels(20, 40)).save(tmp_path / "a.png")
    picture = load_picture("a.png", tmp_path, PixelLimits(224**2, 1344**2))
    enlarged = Image.fromarray(pixels(20, 40)).resize((112, 56)).resize((336, 168))
    assert picture.grid == (1, 12, 24) and (picture.patches == to_patches(np.asarray(enlarged))).all()


def test_one_pixel_is_four_tokens_of_its_colour(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (10, 20, 30)).save(tmp_path / "a.png")
    picture = load_picture("a.png", tmp_path, TRAINING)
    assert picture.tokens == 4
    assert (picture.patches.reshape(16, 3, 196) == np.array([10, 20, 30])[:, None]).all()


def test_too_thin_a_picture_is_refused_with_its_path_and_both_values(tmp_path: Path) -> None:
    Image.new("RGB", (500, 2)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"'a.png': 500 x 2 pixels: the aspect ratio 250.0 is over the limit of 200"):
        load_picture("a.png", tmp_path, TRAINING)
