"""A file of a benchmark and its definition -> **prompts, asked as the benchmark asks**; what cannot be used is counted.

A row that lacks a column, a picture or a sound gold is left out with its reason: it is never asked, and never wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pangu_rl.config.benchmark import ANY, AskedConfig, BenchmarkConfig
from pangu_rl.data.benchmarks.asking import filled, in_brackets, lettered, shown, with_pictures, with_videos
from pangu_rl.data.benchmarks.cells import first_of, options_of, pictures_in, pictures_of, shuffled, text_of
from pangu_rl.data.benchmarks.golds import PRECISE, Asked, Size, gold_of_row
from pangu_rl.data.benchmarks.masks import mask_of
from pangu_rl.data.benchmarks.numbers import rate_of, seconds_of
from pangu_rl.data.benchmarks.questions import (
    Question,
    asked_in,
    category_of,
    first_within,
    group_of,
    id_of,
    is_of_figure,
    question_sizes,
)
from pangu_rl.data.benchmarks.tables import table_rows
from pangu_rl.data.fields.bad_row import BadRow, Row, is_blank
from pangu_rl.errors import DataError
from pangu_rl.records import Prompt
from pretrain.processing.pictures import open_stored, picture_size

REFERRED_CHARS = 64
"""A TSV of VLMEvalKit names another row of the same picture instead of repeating it, in a cell as short as this."""


@dataclass(slots=True)
class BenchmarkRows:
    prompts: list[Prompt] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """A line (file, row, reason) for each row that cannot be asked."""
    elsewhere: int = 0
    """Rows that the figure is not of, by the definition's `where`."""


def load_benchmark(
    path: Path,
    definition: BenchmarkConfig,
    *,
    media_root: Path | None = None,
    limit: int | None = None,
    problem: Callable[[Prompt], str | None] = lambda prompt: None,
    opened: str = "",
) -> BenchmarkRows:
    """The first `limit` prompts of the file and what was left out among them; where several rows are one question, the
    first whole ones. `problem` says why a prompt cannot be used; `opened` is what the chat template writes of every
    answer.

    Raises:
        DataError: no such file, or one that cannot be read.
    """
    found, reader = BenchmarkRows(), _Reader(definition, media_root or Path(), opened)
    if definition.whole_groups:
        reader.sizes, limit = first_within(question_sizes(path, definition), limit), None
    seen: set[str] = set()
    for number, row in table_rows(path):
        try:
            of_figure = is_of_figure(row, definition)
            found.elsewhere += not of_figure
            if not (of_figure and reader.asks(row, number)):
                reader.keep_pictures(row, number)
                continue
            for prompt in reader.prompts(row, number):
                if limit is not None and len(found.prompts) >= limit:
                    return found
                if prompt.uid in seen:
                    raise BadRow(f"id {prompt.uid!r} was there before: name what tells rows apart in columns.id")
                if (reason := problem(prompt)) is not None:
                    raise BadRow(reason)
                seen.add(prompt.uid)
                found.prompts.append(prompt)
        except (BadRow, DataError) as reason:
            found.left_out.append(f"{path}, row {number}: {reason}")
    return found


@dataclass(slots=True)
class _Reader:
    definition: BenchmarkConfig
    media_root: Path
    opened: str
    sizes: dict[Question, int] = field(default_factory=dict)
    """Of the questions that are asked, the file's rows; empty for a benchmark whose rows are one each."""
    _pictures: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Of each row so far, by its id, for rows that name another one's."""

    def prompts(self, row: Row, number: int) -> Iterable[Prompt]:
        """One, or as many as its column of questions lists."""
        uid = id_of(row, number, self.definition)
        questions = asked_in(row, self.definition)
        for index, question in enumerate(questions):
            yield self._prompt(row, uid if len(questions) == 1 else f"{uid}/{index}", uid, text_of(question))

    def asks(self, row: Row, number: int) -> bool:
        """Whether its question is one of those that are asked."""
        if not self.sizes:
            return True
        uid = id_of(row, number, self.definition)
        return (category_of(row, self.definition), group_of(row, uid, self.definition)) in self.sizes

    def keep_pictures(self, row: Row, number: int) -> None:
        """Of a row that is not asked itself, and whose picture is not missed: another one may name it."""
        if isinstance(first_of(row, self.definition.columns.images), str):
            with suppress(BadRow):
                self._pictures_of(row, id_of(row, number, self.definition))

    def _prompt(self, row: Row, uid: str, row_id: str, question: str) -> Prompt:
        definition = self.definition
        pictures = self._pictures_of(row, row_id)
        kind = self._kind(row)
        options = self._options(row, row_id)
        fields = {name: shown(cell) for name, cell in self._fields(row)}
        if question and not is_blank(question):
            fields["question"] = question
        if options:
            fields |= {"options": lettered(options), "choices": in_brackets(options)}
        parts, placed = with_pictures(filled(self._template(kind, fields), fields), pictures)
        videos = () if definition.video is None else (filled(definition.video, fields),)
        category, group = category_of(row, definition), group_of(row, uid, definition)
        gold = gold_of_row(
            Asked(
                row=row,
                definition=definition,
                answer_type=kind.answer_type,
                options=options,
                size=lambda: self._size(pictures),
                open_mask=self._open_mask,
            )
        )
        return Prompt(
            uid=uid,
            messages=({"role": "user", "content": with_videos(parts, videos)},),
            answer=gold.answer,
            answer_type=kind.answer_type,
            images=placed,
            videos=videos,
            time_precise=definition.metric in PRECISE,
            video_span=self._span(row),
            video_fps=self._folder_fps(row),
            source=category,
            extra={
                "scored_by": definition.metric,
                "judged": definition.judged,
                "group": group,
                "group_rows": self.sizes.get((category, group), 1),
                **gold.data,
            },
            opened=self.opened,
        )

    def _options(self, row: Row, row_id: str) -> list[str]:
        names = self.definition.columns.options
        if not self.definition.shuffled:
            return options_of(row, names)
        texts = [text_of(row[name]).strip() for name in names or () if row.get(name) is not None]
        return shuffled(texts, row_id)

    def _kind(self, row: Row) -> AskedConfig:
        said = " ".join(text_of(row[name]) for name in self.definition.columns.kind or () if row.get(name) is not None)
        kinds = self.definition.kinds
        found = next((kind for kind in kinds if kind != ANY and said.startswith(kind)), ANY)
        if found not in kinds:
            raise BadRow(f"its kind is {said!r}, the benchmark knows {', '.join(kinds)}")
        return kinds[found]

    def _span(self, row: Row) -> tuple[float, float] | None:
        """The part of its video that the row is about."""
        start, end = (first_of(row, names) for names in (self.definition.columns.start, self.definition.columns.end))
        return None if start is None and end is None else seconds_of((start, end))

    def _folder_fps(self, row: Row) -> float | None:
        cell = first_of(row, self.definition.columns.folder_fps)
        return self.definition.folder_fps if cell is None else rate_of(cell)

    def _template(self, kind: AskedConfig, fields: dict[str, str]) -> str:
        template = kind.prompt
        for name, piece in self.definition.left_out.items():
            if name not in fields:
                template = template.replace(piece, "")
        return template

    def _fields(self, row: Row) -> Iterable[tuple[str, Any]]:
        for name, names in self.definition.columns.fields.items():
            if (cell := first_of(row, names)) is not None:
                yield name, cell

    def _pictures_of(self, row: Row, row_id: str) -> tuple[str, ...]:
        columns = self.definition.columns
        if self.definition.min_pixels is None:
            return ()
        cell = first_of(row, columns.images)
        if isinstance(cell, str) and len(cell) <= REFERRED_CHARS and cell in self._pictures:
            return self._pictures[cell]
        pictures = pictures_of(row, columns.images)
        if not pictures:
            raise BadRow(f"has no picture: none of the columns {', '.join(columns.images)}")
        self._pictures[row_id] = pictures
        return pictures

    def _size(self, pictures: tuple[str, ...]) -> Size:
        if not pictures:
            raise BadRow("has no picture that its boxes could lie in")
        return picture_size(pictures[0], self.media_root)

    def _open_mask(self, cell: Any) -> np.ndarray:
        pictures = pictures_in(cell)
        if len(pictures) != 1:
            raise BadRow(f"has {len(pictures)} masks in place of one")
        return mask_of(open_stored(pictures[0], self.media_root))
