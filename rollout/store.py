"""Every completion ever drawn, as a data set: one Parquet shard per step in `run_dir/rollouts/`. Groups -> **store**.

Shards are written under another name and renamed when they are on disk, so a shard that has its name is whole. The
store is for reading by others too: plain columns for `datasets` and pandas, JSON where the content has no fixed shape.
The pictures that rows name in `images` lie beside the shards, each file once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pangu_rl.errors import DataError
from pangu_rl.records import Completion, Group, Prompt, SamplingParams, Score
from rollout.kept_pictures import FOLDER, KeptPictures

SCHEMA_VERSION = "2"
READABLE = ("1", SCHEMA_VERSION)
"""Version 1 kept no pictures: its images are paths in the media root, without `sha256` and `original`."""
_PART = pa.struct(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)
_IMAGE = pa.struct(
    [
        pa.field("path", pa.string(), nullable=False),  # of the copy, relative to the folder of the shards
        pa.field("sha256", pa.string()),
        pa.field("original", pa.string()),  # as the prompt set names it
    ]
)
_SAMPLING = pa.struct(
    [
        pa.field("temperature", pa.float64()),
        pa.field("top_p", pa.float64()),
        pa.field("top_k", pa.int64()),
        pa.field("max_new_tokens", pa.int64()),
        pa.field("ignore_eos", pa.bool_()),
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("run", pa.string(), nullable=False),
        pa.field("step", pa.int64(), nullable=False),
        pa.field("prompt_uid", pa.string(), nullable=False),
        pa.field("completion_uid", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("messages", pa.string(), nullable=False),  # JSON, as given in the prompt set
        pa.field("images", pa.list_(_IMAGE), nullable=False),
        pa.field("gold", pa.string(), nullable=False),
        pa.field("answer_type", pa.string(), nullable=False),
        pa.field("prompt_token_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("token_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("logprobs", pa.list_(pa.float32()), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("weight_version", pa.int64(), nullable=False),
        pa.field("sampling", _SAMPLING, nullable=False),
        pa.field("reward", pa.float64()),  # null without a verdict
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("parts", pa.list_(_PART), nullable=False),
        pa.field("advantage", pa.float64(), nullable=False),
        pa.field("trained", pa.bool_(), nullable=False),
        pa.field("scorer_votes", pa.string()),  # JSON of the scorers' 1-5 votes; null where no scorer ran
        pa.field("seconds", pa.float64(), nullable=False),
    ],
    metadata={"pangu_rl.rollouts": SCHEMA_VERSION},
)


class RolloutStore:
    """The rollouts of one run, and the pictures they saw; `media_root` is needed to append rows with pictures."""

    def __init__(self, run_dir: str | Path, media_root: Path | None = None) -> None:
        self.run = Path(run_dir).name
        self.directory = Path(run_dir) / "rollouts"
        self._pictures = KeptPictures(self.directory, media_root)

    def append(self, step: int, groups: Sequence[Group], sampling: SamplingParams) -> Path:
        """Write the shard of `step`, drawn with `sampling`; a shard of a repeated step is replaced.

        Raises:
            OSError: the disk is full or not writable; what was there stays as it was.
            DataError: a picture is gone from the media root, or has changed there, since it was decoded.
        """
        shared = {"run": self.run, "step": step, "sampling": asdict(sampling)}
        rows = [row for group in groups for row in _group_rows(shared | self._image_column(group), group)]
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self._shard(step)
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        _sync_directory(self.directory)
        return path

    def truncate_after(self, step: int) -> list[Path]:
        """Drop the shards of later steps and half-written files: a resumed run draws those steps again.

        Pictures stay: earlier rows may show them, and the steps to come are likely to.
        """
        kept = {self._shard(number).name for number in self.steps() if number <= step}
        dropped = [path for path in sorted(self.directory.glob("step_*")) if path.name not in kept]
        dropped += sorted(self.directory.glob(f"{FOLDER}/*.tmp"))
        for path in dropped:
            path.unlink()
        if dropped:
            _sync_directory(self.directory)
        return dropped

    def steps(self) -> list[int]:
        """Steps that have a shard, in order."""
        return sorted(int(path.stem.removeprefix("step_")) for path in self.directory.glob("step_*.parquet"))

    def read(self) -> ds.Dataset:
        """All shards in the order of their steps, read as they are asked for; half-written files are no part of it.

        Raises:
            DataError: there is no shard, or one was written by another version of the schema.
        """
        paths = [self._shard(step) for step in self.steps()]
        if not paths:
            raise DataError(
                f"{self.directory}: no rollouts; run a stage that draws some with run_dir={self.directory.parent}"
            )
        for path in paths:
            found = (pq.read_schema(path).metadata or {}).get(b"pangu_rl.rollouts", b"none").decode()
            if found not in READABLE:
                raise DataError(f"{path}: rollout schema {found}, this version reads {' and '.join(READABLE)}")
        return ds.dataset([str(path) for path in paths], schema=SCHEMA, format="parquet")

    def _image_column(self, group: Group) -> dict[str, Any]:
        return {
            "images": [
                {"path": self._pictures.keep(picture), "sha256": picture.sha256, "original": picture.path}
                for picture in group.pictures
            ]
        }

    def _shard(self, step: int) -> Path:
        return self.directory / f"step_{step:06d}.parquet"


def _group_rows(shared: dict[str, Any], group: Group) -> list[dict[str, Any]]:
    shared = shared | _prompt_columns(group.prompt) | {"group": group.group, "trained": group.trained}
    shared["prompt_token_ids"] = list(group.prompt_token_ids)
    rows = zip(group.completions, group.scores, group.advantages, strict=True)
    return [
        {**shared, **_completion_columns(completion), **_score_columns(score), "advantage": advantage}
        for completion, score, advantage in rows
    ]


def _prompt_columns(prompt: Prompt) -> dict[str, Any]:
    return {
        "prompt_uid": prompt.uid,
        "source": prompt.source,
        "messages": json.dumps(prompt.messages, ensure_ascii=False),
        "gold": prompt.answer,
        "answer_type": prompt.answer_type,
    }


def _completion_columns(completion: Completion) -> dict[str, Any]:
    return {
        "completion_uid": completion.uid,
        "token_ids": list(completion.token_ids),
        "logprobs": list(completion.logprobs),
        "text": completion.text,
        "finish_reason": completion.finish_reason.value,
        "weight_version": completion.weight_version,
        "seconds": completion.seconds,
    }


def _score_columns(score: Score) -> dict[str, Any]:
    parts = [
        {"name": name, "value": part.value, "outcome": part.outcome.value, "detail": part.detail}
        for name, part in score.parts.items()
    ]
    votes = [{"part": name, **asdict(vote)} for name, part in score.parts.items() for vote in part.votes]
    return {
        "reward": score.reward,
        "outcome": score.outcome.value,
        "parts": parts,
        "scorer_votes": json.dumps(votes, ensure_ascii=False) if votes else None,
    }


def _sync_directory(directory: Path) -> None:
    """Make a rename or removal survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
