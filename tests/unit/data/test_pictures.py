"""The media folder: headers agree with what is decoded, and every broken file is found before anything starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from pangu_rl.checkpoint.model_folder import model_config
from pangu_rl.data.pictures import PictureFolder, file_digest, in_threads
from pangu_rl.errors import ConfigError, DataError
from pangu_rl.records import Prompt
from pretrain.families import family_of
from pretrain.families.pangu import Pangu
from tests.unit.data.vl_folder import build_vl_folder, draw


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_vl_folder(tmp_path_factory.mktemp("vl"))


@pytest.fixture
def media(tmp_path: Path) -> Path:
    return tmp_path / "media"


def folder(media: Path, model: Path) -> PictureFolder:
    return PictureFolder(str(media), model, Pangu({}, model))


def asking(*images: str) -> Prompt:
    return Prompt(uid="1", messages=({"role": "user", "content": "?"},), answer="1", images=images)


@pytest.mark.parametrize("size", [(64, 64), (500, 300), (20, 90), (1, 1), (57, 57), (300, 28)])
def test_the_header_gives_the_grid_that_decoding_gives(media: Path, model: Path, size: tuple[int, int]) -> None:
    draw(media / "a.png", *size)
    outline, whole = folder(media, model).outline("a.png"), folder(media, model).load("a.png")
    assert outline.grid == whole.grid
    assert whole.patches.shape == (4 * whole.tokens, 588)
    assert 4 <= whole.tokens <= 64


def test_a_picture_on_its_side_is_upright_in_both(media: Path, model: Path) -> None:
    """EXIF orientation 6: stored 56 wide and 112 high, shown 112 wide and 56 high."""
    path = draw(media / "a.jpg", 56, 112)
    with Image.open(path) as image:
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(path, exif=exif)
    assert folder(media, model).outline("a.jpg").grid == folder(media, model).load("a.jpg").grid == (1, 4, 8)


def test_the_audit_names_every_picture_that_does_not_decode(media: Path, model: Path) -> None:
    """A truncated file has a sound header: only decoding tells."""
    draw(media / "sound.png", 64, 64)
    whole = draw(media / "cut.png", 64, 64).read_bytes()
    (media / "cut.png").write_bytes(whole[: len(whole) // 2])
    pictures = folder(media, model)
    assert pictures.outline("cut.png").grid == (1, 4, 4)
    audit = pictures.audit([asking("sound.png", "cut.png"), asking("absent.png", "sound.png")])
    assert audit.digests == {"sound.png": file_digest("sound.png", media)}
    assert list(audit.problems) == ["cut.png", "absent.png"]
    assert audit.problem(asking("sound.png")) is None
    assert "'cut.png'" in audit.problem(asking("sound.png", "cut.png"))


def test_an_aspect_ratio_over_the_limit_is_named(media: Path, model: Path) -> None:
    draw(media / "line.png", 402, 2)
    with pytest.raises(DataError, match=r"picture 'line\.png': 402 x 2 pixels: .* 201\.0 .* 200"):
        folder(media, model).outline("line.png")


def test_settings_that_pictures_need(media: Path, model: Path, tmp_path: Path) -> None:
    draw(media / "a.png", 64, 64)
    with pytest.raises(ConfigError, match=r"key images names a\.png, and data\.media_root is not set"):
        PictureFolder(None, model, Pangu({}, model)).outline("a.png")
    with pytest.raises(ConfigError, match=rf"names a\.png, and model\.path {model} is a text model"):
        PictureFolder(None, model, None).outline("a.png")
    with pytest.raises(ConfigError, match=r"data\.media_root .*absent is no folder"):
        PictureFolder(str(tmp_path / "absent"), model, Pangu({}, model))
    with pytest.raises(ConfigError, match="min_pixels None and max_pixels None"):
        PictureFolder(str(media), tmp_path, Pangu({}, tmp_path)).outline("a.png")


def test_a_digest_of_what_cannot_be_read_is_empty(media: Path) -> None:
    draw(media / "a.png", 8, 8)
    assert len(file_digest("a.png", media)) == 64
    assert file_digest("b.png", media) == file_digest("../a.png", media) == ""


def test_threads_keep_the_order() -> None:
    assert list(in_threads(str.upper, [f"x{i}" for i in range(50)])) == [f"X{i}" for i in range(50)]
    assert list(in_threads(str.upper, [], "nothing")) == []


def test_a_model_whose_pictures_are_not_known_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3", "vision_config": {"depth": 1}}))
    (tmp_path / "model.safetensors").touch()
    pictures = PictureFolder(str(tmp_path), tmp_path, family_of(model_config(tmp_path), tmp_path))
    with pytest.raises(ConfigError, match="is a gemma3, whose pictures are not known here: set it to one of openpangu"):
        pictures.outline("a.png")
