"""Selected rows -> **rows of the target**, a batch at a time.

| target | columns |
|---|---|
| raw | the store's, without `seconds` |
| sft, iterative | `id messages images source answer reward outcome pass_rate run step weight_version` |
| pairs | `id messages chosen rejected images source chosen_score rejected_score` |
| prompts | `id messages images source answer answer_type samples verdicts correct pass_rate`, the prompt's others |

Where a row shows videos, all have `videos` and `time_precise` too.

`id` is `run/step/completion`, `run/step/group` of a pair, or the uid of a prompt.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from pangu_rl.config.export import Target
from pangu_rl.errors import DataError
from rollout.export.catalogue import Catalogue, StoredShard
from rollout.export.conversation import answer_message, needs_parts, prompt_messages
from rollout.export.pictures import ExportedPictures
from rollout.export.stream import in_order
from rollout.export.videos import ExportedVideos, shows_videos
from rollout.schema import SCHEMA

Row = dict[str, Any]
Rows = list[Row] | pa.RecordBatch

RAW_SCHEMA = pa.schema([field for field in SCHEMA if field.name != "seconds"])
_ORDERED = "SELECT * FROM selected ORDER BY position"
_PROMPT = ("step", "messages", "images", "videos", "extra", "source")
EQUAL = "chosen and rejected have one text"


class Records:
    """The rows of one export."""

    def __init__(
        self, catalogue: Catalogue, target: Target, pictures: ExportedPictures, videos: ExportedVideos
    ) -> None:
        self.target = target
        self.left_out: Counter[str] = Counter()
        """Why rows that were selected are not there; counted as they are read."""
        self._catalogue = catalogue
        self._pictures = pictures
        self._videos = videos
        self._shows_videos = target != "raw" and shows_videos(catalogue)
        self._parts = target != "raw" and needs_parts(catalogue)
        self._extra = extra_fields(catalogue) if target == "prompts" else pa.schema([])

    @property
    def schema(self) -> pa.Schema:
        """Of every row."""
        if self.target == "raw":
            return RAW_SCHEMA
        content = pa.list_(pa.struct([("type", pa.string()), ("text", pa.string())])) if self._parts else pa.string()
        prompt = [
            ("id", pa.string()),
            ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", content)]))),
            ("images", pa.list_(pa.string())),
            ("source", pa.string()),
        ]
        if self._shows_videos:
            prompt += [("videos", pa.list_(pa.string())), ("time_precise", pa.bool_())]
        fields = pa.schema([*prompt, *_OWN_FIELDS[self.target]])
        return pa.schema([*fields, *(field for field in self._extra if field.name not in fields.names)])

    def __iter__(self) -> Iterator[Rows]:
        return _BUILDERS[self.target](self)

    def raw(self) -> Iterator[Rows]:
        for stored, _, rows in in_order(self._catalogue, _ORDERED, RAW_SCHEMA.names):
            for images in rows["images"].to_pylist():
                for image in images:
                    self._pictures.add(image, stored.rollouts)
            for videos in rows["videos"].to_pylist():
                for video in videos or ():
                    self._videos.add(video, stored.rollouts)
            columns = [
                pa.array([stored.run] * rows.num_rows) if name == "run" else rows[name] for name in RAW_SCHEMA.names
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=RAW_SCHEMA)

    def responses(self) -> Iterator[Rows]:
        own = ("completion_uid", "text", "gold", "reward", "outcome", "weight_version")
        for stored, selected, batch in in_order(self._catalogue, _ORDERED, [*_PROMPT, *own]):
            rates = selected["pass_rate"].to_pylist()
            yield [
                {
                    "id": f"{stored.run}/{row['step']}/{row['completion_uid']}",
                    **self._prompt(stored, row, answer=row["text"]),
                    "answer": row["gold"],
                    **{name: row[name] for name in ("reward", "outcome")},
                    "pass_rate": rate,
                    "run": stored.run,
                    **{name: row[name] for name in ("step", "weight_version")},
                }
                for row, rate in zip(batch.to_pylist(), rates, strict=True)
            ]

    def pairs(self) -> Iterator[Rows]:
        """The sides of a pair lie in one group, so few wait for their other side at any time."""
        waiting: dict[int, tuple[Row, Row]] = {}
        for stored, selected, batch in in_order(self._catalogue, _ORDERED, [*_PROMPT, "group", "text"]):
            made = []
            for side, row in zip(selected.to_pylist(), batch.to_pylist(), strict=True):
                if (other := waiting.pop(side["pair"], None)) is None:
                    waiting[side["pair"]] = (side, row)
                    continue
                (high, chosen), (low, rejected) = sorted(((side, row), other), key=lambda item: not item[0]["chosen"])
                if chosen["text"] == rejected["text"]:
                    self.left_out[EQUAL] += 1
                    continue
                made.append(
                    {
                        "id": f"{stored.run}/{row['step']}/{row['group']}",
                        **self._prompt(stored, row),
                        "chosen": chosen["text"],
                        "rejected": rejected["text"],
                        "chosen_score": high["grade"],
                        "rejected_score": low["grade"],
                    }
                )
            yield made

    def prompts(self) -> Iterator[Rows]:
        """A column of the prompt's own that has the name of one of ours gives way, as after an earlier export."""
        for stored, selected, batch in in_order(self._catalogue, _ORDERED, [*_PROMPT, "gold", "answer_type"]):
            made = []
            for found, row in zip(selected.to_pylist(), batch.to_pylist(), strict=True):
                own = {
                    "id": found["id"],
                    **self._prompt(stored, row),
                    "answer": row["gold"],
                    "answer_type": row["answer_type"],
                    "samples": found["samples"],
                    "verdicts": found["verdicts"],
                    "correct": found["n_correct"],
                    "pass_rate": found["pass_rate"],
                }
                extra = json.loads(row["extra"] or "{}")
                made.append(own | {name: value for name, value in extra.items() if name not in own})
            yield made

    def _prompt(self, stored: StoredShard, row: Row, answer: str | None = None) -> Row:
        messages = prompt_messages(row["messages"], len(row["images"]), parts=self._parts)
        if answer is not None:
            messages = [*messages, answer_message(answer, parts=self._parts)]
        images = [self._pictures.add(image, stored.rollouts) for image in row["images"]]
        prompt = {"messages": messages, "images": images, "source": row["source"]}
        if self._shows_videos:
            prompt["videos"] = [self._videos.add(video, stored.rollouts) for video in row["videos"] or ()]
            prompt["time_precise"] = json.loads(row["extra"] or "{}").get("time_precise", False)
        return prompt


_OWN_FIELDS: dict[str, list[tuple[str, pa.DataType]]] = {
    "pairs": [
        ("chosen", pa.string()),
        ("rejected", pa.string()),
        ("chosen_score", pa.float64()),
        ("rejected_score", pa.float64()),
    ],
    "prompts": [
        ("answer", pa.string()),
        ("answer_type", pa.string()),
        ("samples", pa.int64()),
        ("verdicts", pa.int64()),
        ("correct", pa.int64()),
        ("pass_rate", pa.float64()),
    ],
    "sft": [
        ("answer", pa.string()),
        ("reward", pa.float64()),
        ("outcome", pa.string()),
        ("pass_rate", pa.float64()),
        ("run", pa.string()),
        ("step", pa.int64()),
        ("weight_version", pa.int64()),
    ],
}
_OWN_FIELDS["iterative"] = _OWN_FIELDS["sft"]

_BUILDERS: dict[str, Callable[[Records], Iterator[Rows]]] = {
    "raw": Records.raw,
    "sft": Records.responses,
    "iterative": Records.responses,
    "pairs": Records.pairs,
    "prompts": Records.prompts,
}


def extra_fields(catalogue: Catalogue) -> pa.Schema:
    """Columns that the selected prompts have beyond ours, with the type that holds all their values.

    Raises:
        DataError: a column whose values have no common type.
    """
    found = pa.schema([])
    for _, _, rows in in_order(catalogue, _ORDERED, ["extra"]):
        for extra in dict.fromkeys(text for text in rows["extra"].to_pylist() if text not in (None, "{}")):
            try:
                more = pa.RecordBatch.from_pylist([json.loads(extra)]).schema
                found = pa.unify_schemas([found, more], promote_options="permissive")
            except pa.ArrowException as error:
                line = " ".join(str(error).split())
                raise DataError(f"the prompts' own columns have values of several types: {line[:200]}") from None
    return pa.schema([field if field.type != pa.null() else field.with_type(pa.string()) for field in found])
