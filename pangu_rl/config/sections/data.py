"""Prompt sets and how they are read."""

from typing import Literal

from pydantic import PositiveInt

from pangu_rl.config.base import Strict


class DataConfig(Strict):
    train: str
    """JSONL, Parquet, or a saved `datasets` folder: rows with `messages` (or `prompt`), `answer`, and optionally
    `id`, `answer_type`, `images`, `source`."""
    heldout: str | None = None
    """Rows to evaluate on, never trained."""
    media_root: str | None = None
    """Folder under which the pictures that rows name in `images` lie; nothing outside it is ever read."""
    shuffle: bool = True
    on_bad_row: Literal["refuse", "skip"] = "refuse"
    """What a row that cannot be read, whose picture cannot be decoded, or whose gold does not grade itself correct,
    does: end the run, or be left out with its row number in the log."""
    max_prompt_tokens: PositiveInt = 1024
    """A longer prompt is a bad row; a picture counts with all its tokens, one per 28 x 28 pixels."""
    heldout_limit: PositiveInt | None = None
    """Evaluate on the first so many rows only."""


class SftDataConfig(Strict):
    train: str
    """Rows with `messages` that end with the assistant's turn, or `prompt` and `response`, and optionally `id`,
    `images`, `source`: a file, a folder of files, or a folder that `pangu-rl index` made. More than 16 MiB of them are
    indexed, and each is judged when it is drawn; fewer are all judged before the start."""
    media_root: str | None = None
    """Folder under which the pictures that rows name in `images` lie; nothing outside it is ever read."""
    shuffle: bool = True
    """By the seed: numpy's permutation of up to 1,048,576 rows, of more a Feistel network that holds no list."""
    on_bad_row: Literal["refuse", "skip"] = "refuse"
    max_tokens: PositiveInt = 2048
    """A longer conversation is a bad row; a picture counts with all its tokens, one per 28 x 28 pixels."""
