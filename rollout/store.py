"""Every completion ever drawn, as a data set: one Parquet shard per step in `run_dir/rollouts/`. Groups -> **store**.

Shards are written under another name and renamed when they are on disk, so a shard that has its name is whole. The
store is for reading by others too: plain columns for `datasets`, pandas, DuckDB and polars, JSON where the content has
no fixed shape. What rows name in `images` and `videos` lies beside the shards, each file once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from pangu_rl.errors import DataError
from pangu_rl.records import Completion, Group, Prompt, SamplingParams, Score
from rollout.code_version import code_version
from rollout.footers import footer
from rollout.kept.pictures import FOLDER, KeptPictures
from rollout.kept.videos import VIDEO_FOLDER, KeptVideos, drop_unfinished
from rollout.learned import LearnedTable
from rollout.schema import SCHEMA
from rollout.shards import Shard, live_shards, shard_path, write_shard
from rollout.truncation import drop_steps


class RolloutStore:
    """The rollouts of one run, and what they saw; `media_root` is needed to append rows with pictures or videos."""

    def __init__(self, run_dir: str | Path, media_root: Path | None = None) -> None:
        self.run = Path(run_dir).absolute().name
        self.directory = Path(run_dir) / "rollouts"
        self.learned = LearnedTable(self.directory)
        self._pictures = KeptPictures(self.directory, media_root)
        self._videos = KeptVideos(self.directory, media_root)

    def append(self, step: int, groups: Sequence[Group], sampling: SamplingParams) -> Path:
        """Write the shard of `step`, drawn with `sampling`; a shard of a repeated step is replaced.

        Raises:
            OSError: the disk is full or not writable; what was there stays as it was.
            DataError: a picture is gone from the media root, or has changed there, since it was decoded; or the step
                was compacted with others, and no resume has dropped it.
        """
        shared = {"run": self.run, "step": step, "sampling": asdict(sampling), "code_version": code_version()}
        rows = [row for group in groups for row in _group_rows(shared | self._media_columns(group), group)]
        path = shard_path(self.directory, step, step)
        for shard in live_shards(self.directory):
            if shard.covers(Shard(step, step, path)):
                raise DataError(f"{shard.path} holds step {step} already: resume the run from an earlier checkpoint")
        self.directory.mkdir(parents=True, exist_ok=True)
        write_shard(path, pa.Table.from_pylist(rows, schema=SCHEMA))
        return path

    def truncate_after(self, step: int) -> list[Path]:
        """Drop the rows of later steps and half-written files: a resumed run draws those steps again.

        A kill in the midst of it leaves the rows up to some later step, whole. Pictures stay: earlier rows may show
        them, and the steps to come are likely to.
        """
        unfinished = list(self.directory.glob(f"{FOLDER}/*.tmp"))
        for path in unfinished:
            path.unlink()
        drop_unfinished(self.directory / VIDEO_FOLDER)
        return sorted([*unfinished, *self.learned.truncate_after(step), *drop_steps(self.directory, step, SCHEMA)])

    def steps(self) -> list[int]:
        """Steps that have rows, in order."""
        return [step for shard in live_shards(self.directory) for step in shard.steps()]

    def shards(self) -> list[Shard]:
        """The shards that count, each looked at, in the order of their steps.

        Raises:
            DataError: there is none, or one that is not whole or of a schema that is not read.
        """
        found = live_shards(self.directory)
        if not found:
            raise DataError(
                f"{self.directory}: no rollouts; run a stage that draws some with run_dir={self.directory.parent}"
            )
        for shard in found:
            footer(shard.path)
        return found

    def read(self) -> ds.Dataset:
        """All rows in the order of their steps, read as they are asked for; half-written files are no part of it.

        Raises:
            DataError: as `shards`.
        """
        return ds.dataset([str(shard.path) for shard in self.shards()], schema=SCHEMA, format="parquet")

    def _media_columns(self, group: Group) -> dict[str, Any]:
        return {
            "images": [
                {"path": self._pictures.keep(picture), "sha256": picture.sha256, "original": picture.path}
                for picture in group.pictures
                if picture.clip is None
            ],
            "videos": [
                {
                    "path": self._videos.keep(picture),
                    "sha256": picture.clip.sha256,
                    "original": picture.path,
                    "seconds": picture.clip.seconds,
                }
                for picture in group.pictures
                if picture.clip is not None
            ],
        }


def _group_rows(shared: dict[str, Any], group: Group) -> list[dict[str, Any]]:
    shared = shared | _prompt_columns(group.prompt) | {"group": group.group, "trained": group.trained}
    shared["prompt_token_ids"] = np.array(group.prompt_token_ids, dtype=np.int32)
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
        "extra": json.dumps(prompt.extra, ensure_ascii=False, default=str),
    }


def _completion_columns(completion: Completion) -> dict[str, Any]:
    token_ids, logprobs = completion.arrays
    versions = completion.weight_versions
    return {
        "completion_uid": completion.uid,
        "token_ids": token_ids,
        "logprobs": logprobs,
        "text": completion.text,
        "finish_reason": completion.finish_reason.value,
        "weight_version": completion.weight_version,
        "weight_versions": list(versions) if len(set(versions)) > 1 else None,
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
