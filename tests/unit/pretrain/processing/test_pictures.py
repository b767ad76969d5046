"""Every kind of picture becomes RGB by a rule, and every kind of bad one becomes one line."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from pangu_rl.errors import DataError
from pretrain.processing import pictures
from pretrain.processing.pictures import MAX_PIXELS, open_picture, picture_size


def saved(root: Path, name: str, image: Image.Image, **options: object) -> str:
    image.save(root / name, **options)
    return name


def corner(root: Path, name: str) -> tuple[int, ...]:
    """RGB of the pixel at the top left."""
    image = open_picture(name, root).image
    assert image.mode == "RGB"
    return image.getpixel((0, 0))


def gradient(width: int, height: int) -> Image.Image:
    """No two quarters alike, so that every turn and mirror shows."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 255 // width, y * 255 // height, x * 0], axis=2).astype(np.uint8))


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.gif"])
def test_lossless_pictures_keep_their_pixels_and_the_hash_is_the_files(tmp_path: Path, name: str) -> None:
    image = Image.new("RGB", (40, 30), (10, 200, 30))
    loaded = open_picture(saved(tmp_path, name, image), tmp_path)
    assert loaded.image.size == (40, 30) and loaded.image.tobytes() == image.tobytes()
    assert loaded.sha256 == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_lossy_pictures_come_near(tmp_path: Path, name: str) -> None:
    assert np.allclose(
        corner(tmp_path, saved(tmp_path, name, Image.new("RGB", (40, 30), (10, 200, 30)))), (10, 200, 30), atol=4
    )


def test_one_pixel_is_a_picture(tmp_path: Path) -> None:
    assert corner(tmp_path, saved(tmp_path, "one.png", Image.new("RGB", (1, 1), "blue"))) == (0, 0, 255)


def test_sixteen_bit_greys_keep_their_high_byte(tmp_path: Path) -> None:
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    image = open_picture(saved(tmp_path, "deep.png", Image.fromarray(values)), tmp_path).image
    assert np.asarray(image)[0].tolist() == [[v] * 3 for v in (0, 0, 1, 128, 255)]


def test_sixteen_bit_colours_keep_theirs_too(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    cv2.imwrite(str(tmp_path / "deep.png"), np.array([[[65535, 32768, 255]]], np.uint16))  # blue, green, red
    assert corner(tmp_path, "deep.png") == (0, 128, 255)


@pytest.mark.parametrize(
    ("image", "options", "expected"),
    [
        (Image.new("1", (9, 9), 1), {}, (255, 255, 255)),
        (Image.new("L", (9, 9), 77), {}, (77, 77, 77)),
        (Image.new("RGB", (9, 9), (9, 8, 7)).quantize(4), {}, (9, 8, 7)),
        (Image.new("RGBA", (9, 9), (255, 0, 0, 128)), {}, (255, 127, 127)),
        (Image.new("RGBA", (9, 9), (255, 0, 0, 0)), {}, (255, 255, 255)),
        (Image.new("LA", (9, 9), (0, 128)), {}, (127, 127, 127)),
        (Image.new("RGB", (9, 9), (9, 8, 7)).quantize(4), {"transparency": 0}, (255, 255, 255)),
        (Image.new("L", (9, 9), 77), {"transparency": 77}, (255, 255, 255)),
        (Image.new("RGB", (9, 9), (9, 8, 7)), {"transparency": (9, 8, 7)}, (255, 255, 255)),
        (Image.new("RGB", (9, 9), (9, 8, 7)), {"transparency": (1, 1, 1)}, (9, 8, 7)),
    ],
)
def test_grey_palette_and_transparent_pictures_become_rgb_over_white(
    tmp_path: Path, image: Image.Image, options: dict[str, object], expected: tuple[int, ...]
) -> None:
    assert corner(tmp_path, saved(tmp_path, "a.png", image, **options)) == expected


def test_cmyk_is_converted_by_the_plain_formula(tmp_path: Path) -> None:
    """Cyan 0, magenta and yellow full, black 0: red."""
    saved(tmp_path, "ink.jpg", Image.new("CMYK", (16, 16), (0, 255, 255, 0)), quality=100)
    assert np.allclose(corner(tmp_path, "ink.jpg"), (255, 0, 0), atol=2)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    name = saved(tmp_path, f"turned.{suffix}", gradient(48, 32), exif=exif)
    image = open_picture(name, tmp_path).image
    with Image.open(tmp_path / name) as reference:
        assert image.tobytes() == ImageOps.exif_transpose(reference).convert("RGB").tobytes()
    assert image.size == picture_size(name, tmp_path) == ((32, 48) if orientation > 4 else (48, 32))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_says_nothing(tmp_path: Path) -> None:
    saved(tmp_path, "a.jpg", gradient(48, 32), exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff junk")
    assert picture_size("a.jpg", tmp_path) == (48, 32) == open_picture("a.jpg", tmp_path).image.size


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_an_animation_is_refused(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green", "blue")]
    saved(tmp_path, name, frames[0], save_all=True, append_images=frames[1:])
    for read in (open_picture, picture_size):
        with pytest.raises(DataError, match=rf"'{name}': is an animated (GIF|PNG|WEBP)"):
            read(name, tmp_path)


def test_of_a_cameras_multi_picture_jpeg_the_first_counts(tmp_path: Path) -> None:
    image = Image.new("RGB", (16, 16), "red")
    saved(tmp_path, "a.jpg", image, format="MPO", save_all=True, append_images=[Image.new("RGB", (8, 8), "blue")])
    assert np.allclose(corner(tmp_path, "a.jpg"), (255, 0, 0), atol=3)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_truncated_picture_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    name = saved(tmp_path, f"a.{suffix}", Image.fromarray(noise))
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=f"picture '{name}'") as caught:
        open_picture(name, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"not a picture", "is no PNG, JPEG, WEBP, BMP, GIF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no PNG"),
        (b"\x89PNG\r\n\x1a\n", ""),
        (b"\xff\xd8\xff", ""),
        (b"GIF89a", ""),
        (b"RIFF\xff\xff\xff\xffWEBPVP8 ", ""),
        (b"BM" + b"\xff" * 60, ""),
    ],
)
def test_what_is_no_picture_is_refused_with_path_and_root(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    for read in (open_picture, picture_size):
        with pytest.raises(DataError, match=f"picture 'a.png'.*{reason}") as caught:
            read("a.png", tmp_path)
        assert "\n" not in str(caught.value)


def test_a_missing_picture_names_the_media_root(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"'b.png': No such file or directory \(media root {tmp_path}\)"):
        open_picture("b.png", tmp_path)


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("width", "height"), [(7072, 7072), (60_000, 60_000), (2**31 - 1, 1)])
def test_a_decompression_bomb_is_refused_by_its_header(
    tmp_path: Path, width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    (tmp_path / "bomb.png").write_bytes(png_that_claims(width, height))
    for read in (open_picture, picture_size):
        with pytest.raises(DataError, match=r"'bomb.png': .*\d+ .*pixels.* limit (is|of) \d+"):
            read("bomb.png", tmp_path)


def test_a_picture_at_the_limit_of_pixels_is_no_bomb(tmp_path: Path) -> None:
    side = int(MAX_PIXELS**0.5)
    (tmp_path / "large.png").write_bytes(png_that_claims(side, side))
    assert picture_size("large.png", tmp_path) == (side, side)


class Counted(io.BytesIO):
    """A file that counts what is read of it."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(size)
        self.taken += len(found)
        return found


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_of_a_file_whose_size_is_asked_for_the_header_alone_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 500, 3), dtype=np.uint8)
    name = saved(tmp_path, f"a.{suffix}", Image.fromarray(noise))
    file = Counted((tmp_path / name).read_bytes())
    monkeypatch.setattr(pictures, "open_inside", lambda path, root: file)
    assert len(file.getvalue()) > 100_000
    assert picture_size(name, tmp_path) == (500, 600)
    assert file.taken < 20_000


def test_a_file_of_too_many_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = saved(tmp_path, "a.bmp", gradient(40, 30))
    monkeypatch.setattr(pictures, "MAX_BYTES", 3653)
    for read in (open_picture, picture_size):
        with pytest.raises(DataError, match=r"'a\.bmp': 3654 bytes, the limit is 3653"):
            read(name, tmp_path)


def test_random_damage_never_raises_anything_else(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    buffers = []
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF"):
        buffer = io.BytesIO()
        gradient(24, 24).save(buffer, kind)
        buffers.append(buffer.getvalue())
    for trial in range(300):
        content = bytearray(buffers[trial % len(buffers)])
        for index in draw.integers(0, len(content), 8):
            content[index] = draw.integers(256)
        (tmp_path / "a").write_bytes(content)
        for read in (open_picture, picture_size):
            try:
                read("a", tmp_path)
            except DataError as error:
                assert "\n" not in str(error)
