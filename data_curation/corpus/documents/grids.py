"""Tables as pictures, drawn cell by cell so that every cell's box is known: look-ups, extremes, lists, cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw

from data_curation.corpus.documents.tables_data import PACKAGE, Table, tables
from data_curation.corpus.fonts import plain_font
from data_curation.corpus.labels import Box, box_tag
from data_curation.corpus.materials import Materials
from data_curation.schema import Answer, Language, Picture, Sample, Turn, boxed
from data_curation.sources.items import Split

HEADS = ((225, 232, 245), (60, 90, 140), (240, 240, 240), (70, 110, 80))

ASK = {
    "en": {
        "value": "What is the {column} of {label}?",
        "max": "Which {corner} has the highest {column}?",
        "min": "Which {corner} has the lowest {column}?",
        "rows": "How many rows does the table have below its header?",
        "above": "How many rows have a {column} of more than {bound}?",
        "list": "List the {column} from top to bottom.",
        "cell": "Give the box of the cell with the {column} of {label}.",
        "markdown": "Write the table in Markdown.",
    },
    "zh": {
        "value": "{label} 的{column}是多少？",
        "max": "哪个{corner}的{column}最高？",
        "min": "哪个{corner}的{column}最低？",
        "rows": "表头之下有多少行？",
        "above": "有多少行的{column}大于 {bound}？",
        "list": "请从上到下列出{column}。",
        "cell": "请框出 {label} 的{column}所在的单元格。",
        "markdown": "请用 Markdown 写出这个表格。",
    },
}


@dataclass(frozen=True, slots=True)
class Grid:
    """A drawn table."""

    image: Image.Image
    cells: list[list[Box]]
    """Rows of boxes, the header first."""


def grids(materials: Materials, split: Split, rng: Random) -> Iterator[Sample]:
    """One question on each table in turn, as long as they are wanted."""
    found = tables(materials, split)
    while found:
        for table in rng.sample(found, len(found)):
            language: Language = rng.choices(("en", "zh"), (6, 4))[0]
            tasks = [task for task in ASK["en"] if task != "markdown" or split == "sft"]
            yield _question(materials, table, rng.choice(tasks), language, rng)


def _question(materials: Materials, table: Table, task: str, language: Language, rng: Random) -> Sample:
    drawn = language if materials.cjk_font else "en"
    body = text_rows(table, drawn)
    grid = draw_grid(materials, body, drawn, rng)
    column, row = rng.randrange(len(table.columns)), rng.randrange(len(table.labels))
    values = table.column(column)
    if task in ("max", "min"):
        extreme = max(values) if task == "max" else min(values)
        row = values.index(extreme)
        task = task if values.count(extreme) == 1 else "value"
    bound = sorted(values)[len(values) // 2]
    answers = {
        "rows": Answer(str(len(values)), "integer"),
        "above": Answer(str(sum(value > bound for value in values)), "integer"),
        "list": Answer(f"[{', '.join(map(table.shown, values))}]", "list"),
        "cell": Answer(box_tag(grid.cells[row + 1][column + 1], grid.image.size), "bbox"),
        "value": Answer(table.shown(values[row]), table.answer_type),
    }
    answer = None if task == "markdown" else answers.get(task, Answer(table.labels[row]))
    question = ASK[language][task].format(
        column=table.columns[column][language],
        label=table.labels[row],
        corner=table.corner[language],
        bound=table.shown(bound),
    )
    response = markdown(body) if answer is None else boxed(answer.text)
    turn = Turn((Picture(grid.image), question), response)
    return Sample(category="table", origin=PACKAGE, items=(table.key,), language=language, turns=(turn,), answer=answer)


def text_rows(table: Table, language: Language) -> list[list[str]]:
    """Header and rows as they are shown."""
    header = [table.corner[language], *(column[language] for column in table.columns)]
    return [header, *([label, *map(table.shown, row)] for label, row in zip(table.labels, table.rows, strict=True))]


def markdown(body: list[list[str]]) -> str:
    header, *rows = (f"| {' | '.join(row)} |" for row in body)
    return "\n".join([header, "|" + " --- |" * len(body[0]), *rows])


def draw_grid(materials: Materials, body: list[list[str]], language: Language, rng: Random) -> Grid:
    """Columns as wide as their texts; with lines, or with every second row shaded."""
    font = plain_font(materials, language, rng.randrange(12, 20))
    padding, margin = rng.randrange(5, 12), rng.randrange(6, 24)
    height = font.size + 2 * padding
    widths = [int(max(map(font.getlength, column))) + 2 * padding + 2 for column in zip(*body, strict=True)]
    image = Image.new("RGB", (sum(widths) + 2 * margin, height * len(body) + 2 * margin), (255, 255, 255))
    draw, lined, head = ImageDraw.Draw(image), rng.random() < 0.6, rng.choice(HEADS)
    cells: list[list[Box]] = []
    for y, texts in enumerate(body):
        top, left = margin + y * height, margin
        boxes: list[Box] = []
        for text, width in zip(texts, widths, strict=True):
            box = (left, top, left + width, top + height)
            shade = head if y == 0 else (245, 245, 245) if not lined and y % 2 else (255, 255, 255)
            draw.rectangle(box, fill=shade, outline=(120, 120, 120) if lined else None)
            ink = (255, 255, 255) if sum(shade) < 380 else (20, 20, 20)
            draw.text((left + padding, top + height / 2), text, font=font, fill=ink, anchor="lm")
            boxes.append(box)
            left += width
        cells.append(boxes)
    return Grid(image, cells)
