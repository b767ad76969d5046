"""The report shows what a run left behind, and nothing that a model wrote can act in it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from pangu_rl.errors import DataError, RunError
from pangu_rl.report.page import render, write_report
from tests.unit.report.drawn_run import HOSTILE, build_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("report"), steps=3)


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return render(run, per_sheet=4)


class Read(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_every_section_with_its_figures(page: str) -> None:
    text = " ".join(" ".join(Read(page).text).split())
    assert "Finished: 3 steps." in text
    # 3 steps of 3 + 2 + 2 completions; one correct sum and one correct box in each.
    assert "21 rollouts stored" in text and "28.6 % of them correct" in text
    # 9 and 14 of 20: Wilson's interval of 14 of 20 is 48.1 to 85.5.
    assert "70.0 (48.1 - 85.5)" in text and "45.0 (25.8 - 65.8)" in text
    # boxed_accuracy per step: 1, 0, 0, 0.8, 0, -1 and one without a verdict: mean 0.8 / 6.
    assert "boxed_accuracy 0.133 -1.000 1.000 18 3" in text
    # 3 s and 5 s of each step.
    assert "train 15s 62.5 % 5.000 5.000" in text
    assert "left out" in text and "quiet" not in text
    for title in ("Best", "Worst", "Longest", "No verdict"):
        assert f" {title} " in text
    assert [tag for tag, _ in Read(page).tags].count("article") == 3 + 3 + 3 + 1


def test_curves_of_a_stage_stand_in_sections(tmp_path: Path) -> None:
    rows = [{"step": s, "train/loss": 1.0, "train/nll": 2.0, "train/lr": 1e-5, "train/grad_norm": 0.5} for s in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = Read(render(tmp_path, 1))
    drawn = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert drawn == [
        f"{title} by step" for title in ("Loss", "Negative log-likelihood", "Learning rate", "Gradient norm")
    ]
    assert "Training" in page.text and "Results" not in page.text


def test_nothing_can_run_or_be_fetched(page: str) -> None:
    read = Read(page)
    names = {tag for tag, _ in read.tags}
    assert names.isdisjoint({"script", "iframe", "object", "embed", "link", "base", "form", "a", "svg", "i"})
    for tag, attributes in read.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("href", "style")], tag
        assert attributes.get("src", "data:image/").startswith("data:image/")
    policies = [a["content"] for _, a in read.tags if a.get("http-equiv") == "Content-Security-Policy"]
    style = re.search("<style>(.*)</style>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policies == [
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    ]
    assert page.index("Content-Security-Policy") < page.index("<style>")


def test_hostile_text_is_shown_inert_and_cut(page: str) -> None:
    assert len(page) < 2_000_000, "a megabyte of text was shown several times"
    text = "".join(Read(page).text)
    assert "<script>document.title='pwned'</script>" in text and "{{ 7 * 7 }}" in text
    assert "[U+202E]gnp.exe [U+2066][U+001B][31m[U+0000]" in text
    assert not set(page) & set("\u202e\u2066\x1b\x00")
    left_out = len(HOSTILE) + 2**20 + len("the end") - 4000
    assert f"[... {left_out:,} characters left out ...]" in text
    assert "AAAthe end" in text


def test_boxes_are_drawn_in_the_picture(page: str) -> None:
    uris = {a["src"] for _, a in Read(page).tags if a.get("alt") == "picture 1"}
    image = Image.open(io.BytesIO(base64.b64decode(sorted(uris)[0].partition(",")[2]))).convert("RGB")
    assert image.size == (336, 252)  # 160 x 120 at 2.1
    near = {image.getpixel((round(20 * 2.1) + dx, round(50 * 2.1))) for dx in range(-2, 4)}
    assert any(green > red + 80 and green > blue + 40 for red, green, blue in near), "left edge of the gold's box"


def test_a_run_in_progress(run: Path, tmp_path: Path) -> None:
    """The last line is half written, there is no evaluations.json yet, and one checkpoint has the evaluations."""
    state = tmp_path / "checkpoints" / "step_000002" / "state.json"
    state.parent.mkdir(parents=True)
    state.write_text(json.dumps({"evaluations": json.loads((run / "evaluations.json").read_text())[:1]}))
    (tmp_path / "config.yaml").write_text("trainer: {steps: 40}\n")
    (tmp_path / "metrics.jsonl").write_text('{"step": 2, "train/nll": 1.5}\n{"step": 3, "tra')
    text = " ".join("".join(Read(render(tmp_path, 2)).text).split())
    assert "In progress or interrupted: step 2 of 40." in text
    assert "45.0 (25.8 - 65.8)" in text
    assert "Rollouts to look at" not in text


def test_the_same_run_gives_the_same_page(run: Path, page: str) -> None:
    assert render(run, per_sheet=4) == page


def test_written_whole_or_not_at_all(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert write_report(run, tmp_path / "new" / "x.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    before = write_report(run, per_sheet=1)
    assert before == run / "report.html"

    def full(self: Path, content: bytes) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunError, match=r"x\.html: the report \([\d,]+ bytes\) cannot be written: No space"):
        write_report(run, tmp_path / "x.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such run directory"):
        write_report(tmp_path / "nope")
    with pytest.raises(DataError, match="no run directory, it has neither"):
        write_report(tmp_path)
