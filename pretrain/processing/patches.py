"""RGB pixels become the rows that the vision tower reads. Picture -> **uint8 patches**.

Raw bytes travel: the tower's forward rescales, normalises and doubles them in time, so a picture is an eighth of what
fp32 rows with both time steps would take between processes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pangu_rl.errors import DataError
from pangu_rl.records import Picture
from pretrain.processing.media_root import named
from pretrain.processing.pictures import Decode, LoadedPicture, decode, open_picture
from pretrain.processing.resize import MERGE, PATCH, PixelLimits, enlarge_small, smart_resize

COLUMNS = 3 * PATCH * PATCH


def to_patches(rgb: np.ndarray, patch: int = PATCH, merge: int = MERGE) -> np.ndarray:
    """Cut pixels into patches of `patch` pixels along each side, `merge` along each side of a cell.

    Args:
        rgb: uint8 [H, W, 3], or [T, H, W, 3] for the frames of a video; H and W multiples of a cell, 28 pixels.

    Returns:
        uint8 [T * H/14 * W/14, 588]. Rows: frame, then cells of 2 x 2 patches in raster order, then the four patches of
        a cell in raster order. Columns: channel, row, column of the patch.
    """
    height, width = (side // (patch * merge) for side in rgb.shape[-3:-1])
    cells = rgb.reshape(-1, height, merge, patch, width, merge, patch, 3)
    return cells.transpose(0, 1, 4, 2, 5, 7, 3, 6).reshape(-1, 3 * patch**2)


def resized(image: Image.Image, limits: PixelLimits) -> np.ndarray:
    """Pixels of an RGB picture at the size it is shown at, uint8 [H, W, 3]; bicubic. Raises as `smart_resize`."""
    height, width = smart_resize(image.height, image.width, limits)
    enlarged = enlarge_small(image.height, image.width)
    for h, w in (enlarged, (height, width)):
        if image.size != (w, h):
            image = image.resize((w, h), Image.Resampling.BICUBIC)
    return np.asarray(image)


def load_picture(path: str, media_root: Path, limits: PixelLimits, decode: Decode = decode) -> Picture:
    """Read, resize and cut the picture at `path`, relative to `media_root`.

    Raises:
        DataError: as `open_picture`; also an aspect ratio over 200. One line that names the path.
    """
    loaded = open_picture(path, media_root, decode)
    try:
        rgb = resized(loaded.image, limits)
    except DataError as error:
        raise DataError(f"{named(path)}: {error}") from None
    return _cut(path, loaded, rgb)


def load_square(path: str, media_root: Path, edge: int, decode: Decode = decode) -> Picture:
    """The picture at `path`, whatever its shape, as a square of `edge` pixels, a multiple of a cell. Raises as
    `open_picture`."""
    loaded = open_picture(path, media_root, decode)
    return _cut(path, loaded, np.asarray(loaded.image.resize((edge, edge), Image.Resampling.BICUBIC)))


def _cut(path: str, loaded: LoadedPicture, rgb: np.ndarray) -> Picture:
    grid = (1, rgb.shape[0] // PATCH, rgb.shape[1] // PATCH)
    return Picture(path=path, sha256=loaded.sha256, grid=grid, patches=to_patches(rgb))
