"""Small stores for tests: groups made by hand, with real pictures, appended as a run appends them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pangu_rl.records import Completion, FinishReason, Group, Outcome, Part, Picture, Prompt, SamplingParams, Score
from rollout.schema import VERSION_KEY
from rollout.store import RolloutStore

SAMPLING = SamplingParams(temperature=1.0, max_new_tokens=64)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One completion and what was said of it."""

    text: str
    correct: bool | None = True
    """None is no verdict."""
    grade: float | None = None
    """Value of a part `graded`; None leaves the part out."""
    tokens: int = 3
    finish: FinishReason = FinishReason.STOP
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One prompt and its answers."""

    uid: str
    answers: Sequence[Answer]
    messages: tuple[dict[str, Any], ...] = ()
    gold: str = "2"
    source: str = "sums"
    images: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)
    answer_type: str = "auto"


def draw_pictures(root: Path) -> Path:
    """`red.png`, `blue.jpeg`, and `same.png`, which has the content of the first."""
    root.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (56, 56), "red").save(root / "red.png")
    Image.new("RGB", (56, 28), "blue").save(root / "blue.jpeg")
    (root / "same.png").write_bytes((root / "red.png").read_bytes())
    return root


def store_of(run_dir: Path, steps: dict[int, Sequence[Asked]], media: Path | None = None) -> RolloutStore:
    """A run directory whose store has these steps."""
    store = RolloutStore(run_dir, media)
    for step, asked in steps.items():
        store.append(step, [made_group(one, step, media) for one in asked], SAMPLING)
    return store


def made_group(asked: Asked, step: int, media: Path | None = None) -> Group:
    group = f"{step - 1}:{asked.uid}"
    messages = asked.messages or ({"role": "user", "content": f"What is {asked.uid}?"},)
    prompt = Prompt(
        uid=asked.uid,
        messages=messages,
        answer=asked.gold,
        answer_type=asked.answer_type,
        source=asked.source,
        images=asked.images,
        extra=asked.extra,
    )
    completions = [
        Completion(
            uid=f"{group}/{n}",
            group=group,
            prompt_uid=asked.uid,
            token_ids=tuple(range(answer.tokens)),
            logprobs=(-0.5,) * answer.tokens,
            text=answer.text,
            finish_reason=answer.finish,
            weight_versions=(step,) * answer.tokens,
            seconds=0.25 * step,
        )
        for n, answer in enumerate(asked.answers)
    ]
    return Group(
        prompt=prompt,
        group=group,
        prompt_token_ids=(1, 2),
        completions=completions,
        scores=[_score(f"{group}/{n}", answer) for n, answer in enumerate(asked.answers)],
        advantages=[0.0] * len(completions),
        pictures=tuple(_picture(media, path) for path in asked.images),
    )


def old_shard(store: RolloutStore, step: int, version: str) -> None:
    """Write the shard of `step` anew as an older version had it; version 1 names the original of a picture."""
    path = store.directory / f"step_{step:06d}.parquet"
    later = {"3": ["code_version", "extra"], "4": ["weight_versions"], "5": ["videos"]}
    lacking = [name for since, names in later.items() if version < since for name in names]
    table = pq.read_table(path).drop_columns(lacking)
    if version == "1":
        image = pa.struct([pa.field("path", pa.string(), nullable=False), pa.field("sha256", pa.string())])
        images = [[{"path": image["original"], "sha256": None} for image in row] for row in table["images"].to_pylist()]
        place = table.schema.get_field_index("images")
        table = table.set_column(place, "images", pa.array(images, pa.list_(image)))
    pq.write_table(table.replace_schema_metadata({VERSION_KEY: version}), path)


def _score(uid: str, answer: Answer) -> Score:
    outcome = {True: Outcome.CORRECT, False: Outcome.INCORRECT, None: Outcome.TIMEOUT}[answer.correct]
    value = None if answer.correct is None else float(answer.correct)
    parts = {"boxed_accuracy": Part(value=value, outcome=outcome, detail=answer.detail)}
    parts["boxed_format"] = Part(value=1.0, outcome=Outcome.CORRECT)
    if answer.grade is not None:
        parts["graded"] = Part(value=answer.grade, outcome=outcome)
    return Score(completion_uid=uid, reward=None if value is None else value + 0.1, parts=parts)


def _picture(media: Path | None, path: str) -> Picture:
    assert media is not None
    sha256 = hashlib.sha256((media / path).read_bytes()).hexdigest()
    return Picture(path=path, sha256=sha256, grid=(1, 4, 4), patches=None)
