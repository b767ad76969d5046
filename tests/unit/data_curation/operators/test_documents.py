"""Documents: what engines agree on, tables put together from structure and content, pages of PDFs, pages of the web."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_curation.operators.documents._tables import BadTable, Cell, plain_cells, written
from data_curation.operators.documents.interleaved import interleaved
from data_curation.operators.documents.ocr_agreement import ocr_agreement
from data_curation.operators.documents.pdf_pages import pdf_pages
from data_curation.operators.documents.table_answers import table_answers
from data_curation.operators.documents.table_html import table_html
from data_curation.operators.pictures.read_pictures import read_pictures
from data_curation.operators.text.clean_text import clean_text
from data_curation.pipeline.record import Drop, Record
from pangu_rl.data.documents import Place, parse_document
from pangu_rl.data.fields.bad_row import BadRow


def noted(first: list[Any], second: list[Any], **row: Any) -> Record:
    notes = {"read_pictures": {"found": first}, "read_pictures~2": {"found": second}}
    return Record({"id": "r", "images": ["p.png"], "curation": notes, **row}, "r", "file, row 1")


def line(text: str, *box: float) -> dict[str, Any]:
    return {"text": text, "box": list(box)}


def test_lines_that_two_engines_read_alike() -> None:
    """The second engine moved all boxes by one pixel of ten, IoU 9/11 and more; it misreads a price, and sees a line
    that is not there. `世界` stands to the right of `Hello`, so both are one row."""
    first = [line("Price 10", 0, 20, 50, 30), line("Hello", 0, 0, 50, 10), line("世界", 60, 1, 90, 11)]
    second = [line("Ｈello", 0, 1, 50, 11), line("世 界", 60, 2, 90, 12), line("Price 18", 0, 21, 50, 31)]
    made = ocr_agreement(noted(first, second)).row
    assert [turn["content"] for turn in made["messages"]] == ["Read all text in the image.", "Hello 世界"]
    loose = ocr_agreement(noted(first, second), likeness=0.8).row["messages"][1]["content"]
    assert loose == "Hello 世界\nPrice 10"
    objects = ocr_agreement(noted(first, second), form="objects").row["objects"]
    assert objects == [{"name": "Hello", "box": [0, 0, 50, 10]}, {"name": "世界", "box": [60, 1, 90, 11]}]
    verdict = ocr_agreement(noted(first, [*second, *[line("x", 0, y, 5, y + 5) for y in (50, 60, 70)]]))
    assert isinstance(verdict, Drop) and verdict.detail == "2 of 6 lines are read alike"
    assert isinstance(ocr_agreement(noted([], [])), Drop)
    for broken in ([{"text": "a"}], [line("a", 5, 0, 5, 9)], [line("a", 1, 2)]):
        with pytest.raises(BadRow, match=r"curation.read_pictures.found: .*each needs a text and a box"):
            ocr_agreement(noted(broken, second))
    with pytest.raises(BadRow, match=r"curation\.other is missing"):
        ocr_agreement(noted(first, second), of=("other", "read_pictures"))


def test_engines_are_functions_of_a_users_file(tmp_path: Path) -> None:
    line_of = "{'text': str(one.size), 'box': [0, 0, 1, 1]}"
    code = f"def engine():\n    return lambda pictures: [[{line_of}] for one in pictures]\n"
    (tmp_path / "engine.py").write_text(code)
    Image.new("RGB", (20, 10)).save(tmp_path / "p.png")
    records = [Record({"images": ["p.png"]}, "a", "", tmp_path), Record({"text": "none"}, "b", "", tmp_path)]
    one, none = read_pictures(records, model=f"{tmp_path}/engine.py:engine")
    assert one.notes == {"found": [{"text": "(20, 10)", "box": [0, 0, 1, 1]}]} and none is None


def cell(row: int, column: int, *box: float, **more: Any) -> dict[str, Any]:
    return {"row": row, "column": column, "box": list(box), **more}


def test_a_table_is_put_together_from_structure_and_content() -> None:
    """A heading over two columns, and `a b` in two lines of one cell; `<` is written for HTML."""
    cells = [
        cell(0, 0, 0, 0, 100, 20, column_span=2, header=True),
        cell(1, 0, 0, 20, 50, 60),
        cell(1, 1, 50, 20, 100, 60),
    ]
    lines = [
        line("b", 2, 42, 20, 55),
        line("Sizes < 5", 30, 2, 70, 18),
        line("a", 2, 22, 20, 35),
        line("7", 60, 30, 70, 40),
    ]
    said = table_html(noted(cells, lines)).row["messages"][1]["content"]
    assert said == '<table><tr><th colspan="2">Sizes &lt; 5</th></tr><tr><td>a b</td><td>7</td></tr></table>'
    outside = table_html(noted(cells, [*lines, line("note", 0, 70, 50, 80)]))
    assert isinstance(outside, Drop) and outside.reason == "text outside of its cells"
    holed = table_html(noted(cells[:2], lines[1:2]))
    assert isinstance(holed, Drop) and holed.detail == "row 1, column 1 has no cell"
    assert isinstance(table_html(noted([*cells, cells[0]], lines)), Drop)
    with pytest.raises(BadRow, match="each cell needs box, row and column"):
        table_html(noted([{"box": [0, 0, 1, 1]}], lines))


def test_tables_in_each_form() -> None:
    cells = plain_cells(["a|b", "50 %"], [["x, y", 2.0], [None, 0.5]])
    assert written(cells, "markdown") == "| a\\|b | 50 % |\n|---|---|\n| x, y | 2 |\n|  | 0.5 |"
    assert written(cells, "csv") == 'a|b,50 %\n"x, y",2\n,0.5'
    assert written(cells, "latex") == (
        "\\begin{tabular}{ll}\n\\hline\na|b & 50 \\% \\\\\n\\hline\nx, y & 2 \\\\\n & 0.5 \\\\\n\\hline\n\\end{tabular}"
    )
    assert written(cells, "html").startswith("<table><tr><th>a|b</th><th>50 %</th></tr><tr><td>x, y</td>")
    with pytest.raises(BadTable, match=r"row 0, column 1 has two cells"):
        written([Cell(0, 0, columns=2), Cell(0, 1)], "html")
    row = {"id": "t", "images": ["c.png"], "table": {"columns": ["x"], "rows": [[1]]}}
    made = table_answers(Record(row, "t", ""), forms=("csv",)).row
    assert [turn["content"] for turn in made["messages"]] == [
        "Convert the chart in the image to a table in CSV.",
        "x\n1",
    ]
    assert "table" not in made and table_answers(Record({"id": "n"}, "n", "")) is None
    drawn = {table_answers(Record(row, f"t{n}", "")).what for n in range(50)}
    assert drawn == {f"table became {form}" for form in ("HTML", "Markdown", "LaTeX", "CSV")}
    with pytest.raises(BadRow, match=r"rows\[0\] has 2 values and there are 1 columns"):
        table_answers(Record(row | {"table": {"columns": ["x"], "rows": [[1, 2]]}}, "t", ""))


FONT = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"


def pdf(*pages: list[tuple[int, int, str]]) -> bytes:
    """Pages of 200 x 100 points with texts in Helvetica of 20 points, by hand; readers mend the table of places."""
    kids = " ".join(f"{3 + 2 * n} 0 R" for n in range(len(pages)))
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] >>"]
    for number, texts in enumerate(pages):
        drawn = " ".join(f"BT /F 20 Tf {x} {y} Td ({text}) Tj ET" for x, y, text in texts)
        parts = f"/Contents {4 + 2 * number} 0 R /Resources << /Font << /F {FONT} >> >>"
        objects.append(f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 100] {parts} >>")
        objects.append(f"<< /Length {len(drawn)} >> stream\n{drawn}\nendstream")
    body = "\n".join(f"{number} 0 obj {one} endobj" for number, one in enumerate(objects, 1))
    return f"%PDF-1.4\n{body}\ntrailer << /Root 1 0 R >>\n%%EOF".encode()


def test_a_pdf_becomes_its_pages(tmp_path: Path) -> None:
    """`Top` stands on y 70 of 100 from below, so its box begins at 10 points or later from above and ends at 30 and a
    descender, twice that in pixels; the box holds the ink."""
    (tmp_path / "d.pdf").write_bytes(pdf([(20, 70, "Top"), (20, 20, "Bottom line")], []))
    record = Record({"id": "d", "pdf": "d.pdf", "source": "books"}, "d", "", tmp_path)
    first, scan = pdf_pages(record).rows
    assert first["document"] == [{"type": "image"}, "Top\nBottom line"] and "pdf" not in first
    assert (first["page"], scan["page"], first["source"]) == (1, 2, "books") and "document" not in scan
    assert parse_document(first | {"id": "x"}, "x").parts == (Place.IMAGE, "Top\nBottom line")
    lines = pdf_pages(record, form="objects", pixels_per_point=2.0).rows[0]
    assert [one["name"] for one in lines["objects"]] == ["Top", "Bottom line"]
    picture = Record(lines, "x", "", tmp_path)
    shown = picture.picture(picture.images[0])
    assert shown.size == (400, 200)
    ink = np.argwhere(np.asarray(shown.convert("L"))[:100] < 128)
    x1, y1, x2, y2 = lines["objects"][0]["box"]
    assert 38 <= x1 < x2 <= 110 and 20 <= y1 < y2 <= 70
    assert (
        x1 - 2 <= ink[:, 1].min() <= ink[:, 1].max() <= x2 + 2
        and y1 - 2 <= ink[:, 0].min() <= ink[:, 0].max() <= y2 + 2
    )
    assert pdf_pages(record, most_pages=1).reason == "too many pages"
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.4 nothing")
    assert pdf_pages(Record({"pdf": "b.pdf"}, "b", "", tmp_path)).reason == "broken PDF"


TABLE = '<table><tr><th>x</th><th>y</th></tr><tr><td rowspan="2">1</td><td>2</td></tr><tr><td>3</td></tr></table>'
TEX = '<annotation encoding="application/x-tex">\\frac{a}{b}</annotation>'
PAGE = f"""<html><head><title>no</title></head><body><nav>Home | About</nav><h2>Rain &amp; snow</h2>
<p>Clouds are <b>white</b>.<script>alert(1)</script></p><img src="a.png"><img src="https://x.org/b.png" alt="b">
<ul><li>one</li><li>two</li></ul>{TABLE}
<p>Mass is <math alttext="E = mc^2"><mi>E</mi></math> here.</p>
<math display="block"><semantics><mi>a</mi>{TEX}</semantics></math>
<pre>  kept
    as it is</pre></body></html>"""


def test_a_page_becomes_text_and_pictures_by_turns() -> None:
    row = {"id": "h", "html": PAGE, "media": {"https://x.org/b.png": "kept/b.png"}}
    made = interleaved(Record(row, "h", ""), tables=("html",)).row
    assert made["images"] == ["a.png", "kept/b.png"] and "html" not in made
    assert made["document"] == [
        "## Rain & snow\n\nClouds are white.",
        {"type": "image"},
        {"type": "image"},
        f"- one\n- two\n\n{TABLE}\n\nMass is $E = mc^2$ here.\n\n$$\\frac{{a}}{{b}}$$\n\nkept\n    as it is",
    ]
    unknown = interleaved(Record({"html": PAGE}, "h", ""), tables=("markdown",)).row
    assert unknown["images"] == ["a.png"] and "| x | y |\n|---|---|\n| 1 | 2 |\n|  | 3 |" in unknown["document"][-1]
    assert interleaved(Record({"html": "<img src='a.png'>"}, "h", "")).reason == "no text"
    assert interleaved(Record({"text": "plain"}, "h", "")) is None


def test_markdown_and_what_becomes_a_picture(tmp_path: Path) -> None:
    text = "# Title\n\nLet $a_1 * b_2$ be *small*; `$x$` is code.\n\n$$\na_1 + \\frac{1}{2}\n$$"
    text += "\n\n| k | v |\n|---|---|\n| a | 1 |\n\nEnd."
    record = Record({"id": "m", "markdown": text}, "m", "", tmp_path)
    plain = interleaved(record, tables=("csv",)).row
    words = "# Title\n\nLet $a_1 * b_2$ be small; $x$ is code."
    assert plain["document"] == [f"{words}\n\n$$a_1 + \\frac{{1}}{{2}}$$\n\nk,v\na,1\n\nEnd."]
    drawn = interleaved(record, pictured=1.0).row
    assert [isinstance(part, str) for part in drawn["document"]] == [True, False, False, True]
    pictures = Record(drawn, "m", "", tmp_path)
    for path in pictures.images:
        shown = np.asarray(pictures.picture(path).convert("L"))
        assert 0.002 < (shown < 128).mean() < 0.5
    foreign = interleaved(Record({"markdown": "| 表 |\n|---|\n| 1 |\n\n$$\\nosuch{x}$$"}, "f", ""), pictured=1.0).row
    assert foreign["images"] == [] and "表" in foreign["document"][0] and "$$\\nosuch{x}$$" in foreign["document"][0]


def test_text_is_put_in_order() -> None:
    def said(text: str) -> str:
        verdict = clean_text(Record({"document": text}, "t", ""), most_garbled=0.5)
        return verdict.row["document"] if hasattr(verdict, "row") else text

    assert said("中 文\u3000字，  好") == "中文字，好"
    assert said("Ｔｅｓｔ１２３，ﬁne\u200b  words \n\n\n\n  indented") == "Test123，fine words\n\n  indented"
    assert said("SÃO PAULO") == "SÃO PAULO"
    dropped = clean_text(Record({"document": "cafÃ© and\ufffd\ufffd text"}, "t", ""))
    assert (
        isinstance(dropped, Drop) and dropped.reason == "garbled" and dropped.values["garbled"] == pytest.approx(4 / 16)
    )
    row = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "a  b"}, {"type": "image"}]}],
        "id": "x  y",
    }
    assert clean_text(Record(row, "x", "")).row == {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "a b"}, {"type": "image"}]}],
        "id": "x  y",
    }
