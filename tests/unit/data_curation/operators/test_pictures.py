"""Picture operators, on drawn pictures whose fault is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from data_curation.operators.pictures.blank_pictures import blank_pictures, ink_and_extent
from data_curation.operators.pictures.compressed_pictures import compressed_pictures, jpeg_quality, residue
from data_curation.operators.pictures.decodable_pictures import decodable_pictures
from data_curation.operators.pictures.picture_scores import picture_scores
from data_curation.operators.pictures.picture_size import picture_size
from data_curation.pipeline.record import Annotate, Drop, Keep
from data_curation.pipeline.run import run_pipeline
from pangu_rl.errors import DataError
from tests.unit.data_curation.operators.pictures import saved, scene, shown
from tests.unit.data_curation.pipeline.builders import lines_of, pipeline, write_jsonl


def reason(verdict) -> str:
    return verdict.reason if isinstance(verdict, Drop) else ""


def test_sound_broken_and_missing_pictures(tmp_path: Path) -> None:
    good = saved(tmp_path, "good.png", scene(1))
    whole = (tmp_path / good).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no picture")
    assert decodable_pictures(shown(tmp_path, good)) is None
    assert decodable_pictures(shown(tmp_path)) is None
    assert reason(decodable_pictures(shown(tmp_path, good, "cut.png"))) == "broken picture"
    assert reason(decodable_pictures(shown(tmp_path, "text.png"))) == "broken picture"
    assert reason(decodable_pictures(shown(tmp_path, "none.png"))) == "missing picture"
    assert reason(decodable_pictures(shown(tmp_path, "../outside.png"))) == "missing picture"


def test_sizes_by_the_header(tmp_path: Path) -> None:
    names = {
        size: saved(tmp_path, f"{size[0]}.png", Image.new("RGB", size)) for size in ((27, 300), (28, 28), (570, 28))
    }
    assert reason(picture_size(shown(tmp_path, names[27, 300]))) == "too small"
    assert picture_size(shown(tmp_path, names[28, 28])) == Keep(values={"side": 28, "aspect": 1})
    assert reason(picture_size(shown(tmp_path, names[570, 28]))) == "extreme aspect ratio"
    assert isinstance(picture_size(shown(tmp_path, names[570, 28]), most_aspect=21), Keep)
    assert reason(picture_size(shown(tmp_path, names[28, 28]), least_pixels=785)) == "too small"


def test_blank_and_nearly_blank_pictures(tmp_path: Path) -> None:
    """A dot of 5 x 5 on 200 x 200 is 0.0006 of it, in one of 256 places. A diagonal of one
    pixel on 500 x 500 is 0.002, in 16 places or more. Pink on grey of one luminance is a picture too."""
    page = Image.new("RGB", (200, 200), "white")
    dot = page.copy()
    dot.paste((0, 0, 0), (90, 90, 95, 95))
    word = page.copy()
    ImageDraw.Draw(word).text((60, 90), "Page one")
    ImageDraw.Draw(word).text((60, 110), "of seven", fill="black")
    ImageDraw.Draw(word).rectangle((60, 130, 140, 140), fill="navy")
    noise = Image.fromarray(np.random.default_rng(0).integers(120, 124, (200, 200, 3), dtype=np.uint8))
    line = Image.new("RGB", (500, 500), "white")
    ImageDraw.Draw(line).line((0, 0, 499, 499), fill="#999999")
    pale = Image.new("RGB", (300, 300), (128, 128, 128))
    pale.paste((158, 113, 128), (20, 20, 60, 60))
    faint = Image.fromarray(np.tile(np.linspace(100, 110, 300).astype(np.uint8)[None, :, None], (300, 1, 3)))
    assert ink_and_extent(dot) == (pytest.approx(25 / 40_000), 1 / 256) and ink_and_extent(page) == (0, 0)
    assert ink_and_extent(line)[0] == pytest.approx(500 / 250_000) and ink_and_extent(line)[1] >= 16 / 256
    for name, picture in {"page": page, "dot": dot, "noise": noise, "faint": faint}.items():
        assert reason(blank_pictures(shown(tmp_path, saved(tmp_path, f"{name}.png", picture)))) == "blank picture"
    large = dot.resize((1000, 1000))
    assert reason(blank_pictures(shown(tmp_path, saved(tmp_path, "large.png", large)))) == "blank picture"
    for name, picture in {"word": word, "scene": scene(2), "line": line, "pale": pale}.items():
        verdict = blank_pictures(shown(tmp_path, saved(tmp_path, f"{name}.png", picture)), least_ink=0.0021)
        assert isinstance(verdict, Keep)


@pytest.mark.parametrize("quality", [5, 10, 25, 50, 75, 95])
def test_the_quality_of_a_jpeg_is_read_off_its_tables(tmp_path: Path, quality: int) -> None:
    saved(tmp_path, "x.jpg", scene(3), quality=quality)
    assert jpeg_quality(Image.open(tmp_path / "x.jpg")) == quality
    assert jpeg_quality(scene(3)) is None


def test_heavy_compression_is_found_in_the_file_and_in_one_saved_anew(tmp_path: Path) -> None:
    for seed in range(4):
        heavy = saved(tmp_path, "heavy.jpg", scene(seed), quality=8)
        anew = saved(tmp_path, "anew.png", Image.open(tmp_path / heavy))
        fine = saved(tmp_path, "fine.jpg", scene(seed), quality=85)
        plain = saved(tmp_path, "plain.png", scene(seed))
        assert "JPEG quality 8" in compressed_pictures(shown(tmp_path, heavy)).detail
        assert "residue" in compressed_pictures(shown(tmp_path, anew)).detail
        assert isinstance(compressed_pictures(shown(tmp_path, fine, plain)), Keep)
        assert 0.8 < residue(scene(seed), 30) < 1.2 and residue(scene(seed), 2) is None


@pytest.mark.parametrize("quality", [3, 9, 17, 29])
def test_quantised_pixels_are_told_where_paper_is_white_too(tmp_path: Path, quality: int) -> None:
    """White paper cuts off what JPEG would have above it, so not all coefficients are multiples of the steps any more:
    small print, the worst of it, is near the bound, and still far from what a fine JPEG and the page itself have."""
    page = Image.new("RGB", (320, 200), "white")
    pen = ImageDraw.Draw(page)
    for at in range(24):
        pen.text((5 + at * 3, 3 + at * 8), f"Line {at} of a page, 12.{at} %", fill="black")
    heavy, fine = (Image.open(tmp_path / saved(tmp_path, f"{q}.jpg", page, quality=q)) for q in (quality, 60))
    assert residue(heavy.convert("RGB"), 30) < 0.23 and residue(fine.convert("RGB"), 30) > 0.5
    assert residue(page, 30) > 0.7


def test_a_picture_whose_squares_are_blocks_cannot_be_told() -> None:
    """Squares of 8 pixels, each of one colour, lose nothing by quantising, whatever they were."""
    mosaic = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)).resize((128, 128), 0)
    assert residue(mosaic, 30) is None and residue(Image.new("L", (4, 4)), 30) is None


@pytest.mark.parametrize(("width", "first"), [(1, 0), (1, 7), (2, 3), (3, 0)])
def test_a_drawn_grid_of_eight_pixels_is_no_compression_and_heavy_jpeg_is(
    tmp_path: Path, width: int, first: int
) -> None:
    """Blocks with lines lose as much as those that begin beside them, wherever the lines are."""
    page = Image.new("RGB", (256, 192), "white")
    pen = ImageDraw.Draw(page)
    for at in range(first, 256, 8):
        pen.rectangle((at, 0, at + width - 1, 191), fill=(15, 15, 15))
        pen.rectangle((0, at, 255, at + width - 1), fill=(15, 15, 15))
    assert residue(page, 30) > 0.4
    drawn = saved(tmp_path, "drawn.png", page)
    heavy = saved(tmp_path, "heavy.jpg", scene(9), quality=6)
    anew = saved(tmp_path, "anew.png", Image.open(tmp_path / heavy))
    assert isinstance(compressed_pictures(shown(tmp_path, drawn)), Keep)
    assert [reason(compressed_pictures(shown(tmp_path, name))) for name in (heavy, anew)] == ["heavy compression"] * 2


MODEL = """
calls = []

def bright():
    calls.append(1)
    assert len(calls) == 1
    return lambda pictures, texts: [sum(picture.resize((1, 1)).getpixel((0, 0))) / 765 for picture in pictures]
"""


def test_scores_of_a_configured_model(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    white, black = (saved(tmp_path, f"{name}.png", Image.new("RGB", (40, 40), name)) for name in ("white", "black"))
    records = [shown(tmp_path, white), shown(tmp_path), shown(tmp_path, black, white)]
    kept, none, dropped = picture_scores(records, model=f"{tmp_path}/model.py:bright", least=0.5, reason="dark")
    assert (kept, none, dropped) == (
        Annotate({"score": 1.0}),
        None,
        Drop("dark", "0, the least is 0.5", {"score": 0.0}),
    )
    assert reason(picture_scores(records, model=f"{tmp_path}/model.py:bright", most=0.9)[0]) == "score"


def test_a_picture_that_another_operator_cannot_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="media_root is not set"):
        picture_size(shown(None, "x.png"))  # type: ignore[arg-type]
    source = write_jsonl(tmp_path / "in.jsonl", [dict(shown(tmp_path, "none.png").row)])
    run_pipeline(pipeline(source, tmp_path / "out", ["picture_size"], media_root=str(tmp_path), max_error_rate=1.0))
    (line,) = lines_of(tmp_path / "out/dropped")
    assert (line["kind"], line["reason"]) == ("error", "DataError") and "none.png" in line["detail"]
