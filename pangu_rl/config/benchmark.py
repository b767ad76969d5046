"""A benchmark as data: **what its files' columns mean, how its rows are asked, and what its figure is**.

The shipped ones lie in `configs/eval/benchmarks/`, a file each.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pangu_rl.config.base import Strict
from pangu_rl.config.sections.pixels import PixelRange

ANY = "any"
PLACE = re.compile(r"(?<![a-z])\{(\w+)\}")
r"""Where a row's own text goes: `{question}`. What LaTeX takes in braces (`\begin{bmatrix}`, `\boxed{}`) is none."""
FROM_ROWS = ("question", "options", "choices")

Names = Annotated[tuple[str, ...], Field(min_length=1)]
"""Names of a column in the files that are about, in the order of preference."""
Metric = Literal[
    "boxed",
    "exact",
    "choice",
    "anls",
    "vqa_accuracy",
    "relaxed_accuracy",
    "containment",
    "charxiv",
    "yes_no",
    "box_iou",
    "detection_map",
    "points_in_mask",
    "count_by_pointing",
    "depth",
    "span_iou",
    "instructions",
]
JUDGED: tuple[Metric, ...] = ("boxed", "choice", "yes_no")
"""Metrics of one short answer."""
SUMMED: tuple[Metric, ...] = ("yes_no", "detection_map")
"""Metrics whose figure is a sum or a mean over the categories, where rows have any."""


class BenchmarkColumnsConfig(Strict):
    id: Names = ("index", "id")
    """What no two rows share; a row without one is known by its number."""
    question: Names = ("question",)
    images: Names = ("image", "images")
    """A picture or a list of them, as bytes, base64 or paths; `image_#` are the columns `image_1`, `image_2`, ..."""
    options: Names | None = None
    """Columns named by letters, or one that has a list; `a#` are the columns `a0`, `a1`, ... Of a benchmark that is
    `shuffled`, columns of one text each. Letters before the texts themselves (`A. red`) are taken off."""
    answer: Names = ("answer",)
    category: Names | None = None
    """What the figures are split by."""
    kind: Names | None = None
    """Columns whose values, joined by spaces, say which of `kinds` a row is."""
    group: Names | None = None
    """What rows that are one question share."""
    start: Names | None = None
    """Seconds at which the shown part of the row's video begins; a row without them is asked about all of it."""
    end: Names | None = None
    folder_fps: Names | None = None
    """Frames a second of the row's folder of frames, before what the benchmark's `folder_fps` says."""
    fields: dict[str, Names] = Field(default_factory=dict)
    """Further columns, by the name that prompts and the metric know them under."""


class AskedConfig(Strict):
    prompt: str
    """With `{question}`, `{options}` (`A. ...` a line), `{choices}` (`(A) ...` a line) and the names of
    `columns.fields`. Pictures stand where the row's text has `<image>` or `<image 1>`, those without a place of their
    own before all text."""
    answer_type: str = "auto"
    """How a boxed answer is read, see docs/grading.md; for the metric `boxed`."""


class BenchmarkConfig(PixelRange):
    title: str
    """The name in tables."""
    split: str
    """Which rows the published figures are of, as the hub calls them."""
    where: dict[str, Names] = Field(default_factory=dict)
    """Column -> how its cells begin in the rows that the figure is of, in files that hold others too, such as `{split:
    [validation]}`. The others are not asked; a row without the column is one of the figure."""
    metric: Metric
    kinds: Annotated[dict[str, AskedConfig], Field(min_length=1)]
    """The beginning of what `columns.kind` says, or `any` for all others -> how such a row is asked."""
    columns: BenchmarkColumnsConfig = BenchmarkColumnsConfig()
    left_out: dict[str, str] = Field(default_factory=dict)
    """Name of a field -> the piece of the prompts that goes with it, such as ` (Unit: {unit})`, which a row without the
    field is asked without."""
    golds: Literal["letter_or_text", "letter_or_index"] = "letter_or_text"
    """What the gold of a multiple choice is, beside a letter: an option's text, or its index from 0."""
    likeliest_letter: bool = False
    """The answer is the options' letter that is the likeliest first token, and nothing is written: for models that were
    not taught to answer in words. The metric is `choice`."""
    judged: bool = False
    """Its authors have a model read the answers that rules cannot; ours does where the reward function is
    `judged_benchmark`, docs/evaluation.md."""
    shuffled: bool = False
    """Show the options in an order that the row's id and their texts decide, for files with the right one first."""
    boxes: Literal["xyxy", "xywh"] = "xyxy"
    """How the gold's boxes are written, in pixels: two corners, or a corner and the size."""
    video: str | None = None
    """Where a row's video lies under the media root, with the names of `columns.fields`: `{folder}/{video}.mp4`. It may
    be a folder of frames, in the order of their names. Null for benchmarks without videos."""
    folder_fps: PositiveFloat | None = None
    """Frames a second that folders of frames were taken at; they are then looked at as videos are. Null: the frames
    were chosen, and each is shown."""
    mean_of_categories: bool = False
    """The figure is the mean of the categories' shares, however many rows each has."""
    group_modulo: PositiveInt | None = None
    """Rows whose group is the same number modulo this are one question, right where all of them are."""
    min_pixels: PositiveInt | None = None
    """Least area that a picture is shown at; null, as `max_pixels`, for benchmarks without pictures."""

    @property
    def counted_by_category(self) -> bool:
        """Whether the figure is another one without the rows' categories."""
        return self.columns.category is not None and (self.mean_of_categories or self.metric in SUMMED)

    @property
    def whole_groups(self) -> bool:
        """Whether the figure is of questions that several rows ask, and takes all of these."""
        return self.columns.group is not None and (self.group_modulo is not None or self.metric == "yes_no")

    @model_validator(mode="after")
    def every_place_has_its_column(self) -> BenchmarkConfig:
        known = {*FROM_ROWS, *self.columns.fields}
        for kind, asked in self.kinds.items():
            if unknown := sorted(set(PLACE.findall(asked.prompt)) - known):
                raise ValueError(
                    f"kinds.{kind}.prompt has {{{unknown[0]}}}: known are {', '.join(sorted(known))}; name its column "
                    "in columns.fields"
                )
            if self.columns.options is None and {"options", "choices"} & set(PLACE.findall(asked.prompt)):
                raise ValueError(f"kinds.{kind}.prompt shows options: name their columns in columns.options")
        if self.columns.kind is None and set(self.kinds) != {ANY}:
            raise ValueError(f"kinds are {', '.join(self.kinds)}: name the columns that tell them in columns.kind")
        for name, piece in self.left_out.items():
            if name not in self.columns.fields or not any(piece in asked.prompt for asked in self.kinds.values()):
                raise ValueError(f"left_out.{name} must be a field and {piece!r} a piece of a prompt")
        return self

    @model_validator(mode="after")
    def a_video_has_its_columns(self) -> BenchmarkConfig:
        for name in PLACE.findall(self.video or ""):
            if name not in self.columns.fields:
                raise ValueError(f"video has {{{name}}}: name its column in columns.fields")
        if bool(self.columns.start) != bool(self.columns.end) or (self.columns.start and not self.video):
            raise ValueError("columns.start and columns.end are of a video's part: name both, and video")
        if (self.folder_fps or self.columns.folder_fps) and not self.video:
            raise ValueError("folder_fps is of videos that are folders of frames: name video")
        if self.mean_of_categories and (self.columns.category is None or self.group_modulo is not None):
            raise ValueError("mean_of_categories needs columns.category, and no group_modulo")
        return self

    @model_validator(mode="after")
    def a_judge_reads_short_answers(self) -> BenchmarkConfig:
        if self.judged and self.metric not in JUDGED:
            raise ValueError(f"judged is for the metrics {', '.join(JUDGED)}, and this one's is {self.metric}")
        return self

    @model_validator(mode="after")
    def letters_are_of_options(self) -> BenchmarkConfig:
        if self.likeliest_letter and (self.metric != "choice" or self.judged):
            raise ValueError(
                f"likeliest_letter is for the metric choice without a judge, not {self.metric}, judged {self.judged}"
            )
        return self
