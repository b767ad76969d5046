"""Rows that say what a held-out set asks: whoever trains on them measures nothing (pangu_rl/data/decontaminate.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt

from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Record, Verdict
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.sampling import DecontaminationConfig
from pangu_rl.data.decontaminate import HeldOut
from pangu_rl.data.media.columns import video_paths
from pangu_rl.data.pictures import file_digest
from pangu_rl.data.prompts import load_prompts
from pangu_rl.errors import DataError
from pangu_rl.records import Prompt
from pretrain.processing.embedded import kept_file

DOCUMENT_NGRAM = 13
"""Words in a row that a document shares with a held-out prompt (GPT-3, Brown et al. 2020, appendix C)."""
_ANY = 1e-9
"""As a share: one n-gram is enough."""


class _ByContent(dict):
    """Pictures and videos are named by their content."""

    def __missing__(self, key: str) -> str:
        return key


@row_operator(cost="cpu")
def held_out(
    record: Record,
    *,
    prompts: list[str],
    media_root: str | None = None,
    ngram: PositiveInt | None = 8,
    share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.7,
) -> Verdict:
    """What is asked, against the prompts of the files `prompts`: the same words, or `share` of its n-grams; of rows
    with pictures or videos only against prompts that show one of them. A document may share no 13 words in a row with a
    prompt."""
    if record.row.get("document") is not None:
        index, images = _for_documents(tuple(prompts)), ()
        turns = [{"role": "user", "content": record.text("answered")}]
    else:
        index = _for_questions(tuple(prompts), media_root, ngram, share)
        turns = record.row.get("messages") or [{"role": "user", "content": record.text("asked")}]
        images = tuple(hashlib.sha256(record.content(path)).hexdigest() for path in record.images)
        images += tuple(_video_digest(record, path) for path in video_paths(record.row))
    asked = Prompt(uid=record.uid, messages=tuple(turns), answer="", images=images)
    problem = index.problem(asked)
    return Drop("held out", problem.replace("_", " ")) if problem else None


def _video_digest(record: Record, path: str) -> str:
    root = record.media_root
    if root is None and kept_file(path) is None:
        raise DataError(f"{path}: media_root is not set: set it to the folder that videos lie in")
    if not (digest := file_digest(path, root or Path())):
        raise DataError(f"{path}: no video in {root} that can be read: mend the path, or media_root")
    return digest


@cache
def _for_questions(prompts: tuple[str, ...], media_root: str | None, ngram: int | None, share: float) -> HeldOut:
    root = resolve_path(media_root) if media_root else Path()
    shown = [
        replace(
            prompt,
            images=tuple(file_digest(path, root) or path for path in (*prompt.images, *prompt.videos)),
            videos=(),
        )
        for prompt in _prompts(prompts)
    ]
    return HeldOut(shown, DecontaminationConfig(ngram=ngram, share=share), _ByContent())


@cache
def _for_documents(prompts: tuple[str, ...]) -> HeldOut:
    texts = [replace(prompt, images=(), videos=()) for prompt in _prompts(prompts)]
    return HeldOut(texts, DecontaminationConfig(ngram=DOCUMENT_NGRAM, share=_ANY))


def _prompts(files: tuple[str, ...]) -> Iterator[Prompt]:
    return (prompt for file in files for prompt in load_prompts(resolve_path(file)).records)
