"""Prompt sets and how they are read."""

from typing import Literal

from pydantic import PositiveInt

from pangu_rl.config.sections.rows import TrainedRowsConfig


class DataConfig(TrainedRowsConfig):
    shares_by: Literal["samples"] = "samples"
    """What the shares are of: prompts."""
    train: str
    """JSONL, a JSON array, Parquet, or a saved `datasets` folder: rows with `messages` (or `prompt`), `answer`, and
    optionally `id`, `answer_type`, `images`, `videos`, `time_precise`, `source`, `tools`; or rows of another
    `format`."""
    heldout: str | None = None
    """Rows to evaluate on, never trained."""
    media_root: str | None = None
    """Folder under which what rows name in `images` and `videos` lies; nothing outside it is ever read."""
    shuffle: bool = True
    on_bad_row: Literal["refuse", "skip"] = "refuse"
    """What a row that cannot be read, whose picture cannot be decoded, or whose gold does not grade itself correct,
    does: end the run, or be left out with its row number in the log."""
    max_prompt_tokens: PositiveInt = 1024
    """A longer prompt is a bad row; a picture counts with all its tokens (docs/models.md)."""
    heldout_limit: PositiveInt | None = None
    """Evaluate on the first so many rows only."""


class SftDataConfig(TrainedRowsConfig):
    train: str
    """Rows with `messages` that end with the assistant's turn, or `prompt` and `response`, and optionally `id`,
    `images`, `videos`, `time_precise`, `source`, `tools`; or rows of another `format`. A turn with `train: false` (or
    `weight: 0`) is read. A file, a folder of files, or a folder that `pangu-rl index` made. More than 16 MiB of them
    are indexed, and each is judged when it is drawn, unless `columns` or `also` is set; fewer are all judged before the
    start."""
    turns: Literal["all", "last"] = "all"
    """Which of the assistant's turns are trained; those that are not are written as the template writes history."""
    reasoning: Literal["keep", "strip"] = "keep"
    """Whether what stands up to `</think>`, and `reasoning_content`, is trained or taken off before the template sees
    it. Reasoning that is kept and that the template leaves out of a trained turn makes a bad row."""
    media_root: str | None = None
    """Folder under which what rows name in `images` and `videos` lies; nothing outside it is ever read."""
    shuffle: bool = True
    """By the seed: numpy's permutation of up to 1,048,576 rows, of more a Feistel network that holds no list."""
    on_bad_row: Literal["refuse", "skip"] = "refuse"
    max_tokens: PositiveInt = 2048
    """A longer conversation is a bad row; a picture counts with all its tokens (docs/models.md)."""
