"""The columns of a stored rollout, and the versions of them that are still read.

| version | |
|---|---|
| 1 | kept no pictures: `images` are paths in the media root, without `sha256` and `original` |
| 2 | without `code_version` and `extra` |
| 3 | without `weight_versions` |
| 4 | without `videos` |
| 5 | this one |

A column that an older shard lacks is null when it is read. `pangu-rl compact` writes old shards anew in this version.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pangu_rl.errors import DataError

VERSION_KEY = b"pangu_rl.rollouts"
SCHEMA_VERSION = "5"
READABLE = ("1", "2", "3", "4", SCHEMA_VERSION)
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
_VIDEO = pa.struct(
    [
        pa.field("path", pa.string(), nullable=False),  # of the copy, as of an image: a file, or a folder of frames
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("original", pa.string(), nullable=False),
        pa.field("seconds", pa.list_(pa.float32()), nullable=False),  # of each frame that was shown
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
        pa.field("videos", pa.list_(_VIDEO)),
        pa.field("gold", pa.string(), nullable=False),
        pa.field("answer_type", pa.string(), nullable=False),
        pa.field("extra", pa.string()),  # JSON of the prompt's other columns, such as choices
        pa.field("prompt_token_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("token_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("logprobs", pa.list_(pa.float32()), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("weight_version", pa.int64(), nullable=False),  # the oldest that drew a token
        pa.field("weight_versions", pa.list_(pa.int32())),  # of each token; null where one version drew all
        pa.field("code_version", pa.string()),
        pa.field("sampling", _SAMPLING, nullable=False),
        pa.field("reward", pa.float64()),  # null without a verdict
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("parts", pa.list_(_PART), nullable=False),
        pa.field("advantage", pa.float64(), nullable=False),
        pa.field("trained", pa.bool_(), nullable=False),
        pa.field("scorer_votes", pa.string()),  # JSON of the scorers' 1-5 votes; null where no scorer ran
        pa.field("seconds", pa.float64(), nullable=False),
    ],
    metadata={VERSION_KEY: SCHEMA_VERSION},
)


def checked_metadata(path: Path, key: bytes = VERSION_KEY, readable: Sequence[str] = READABLE) -> pq.FileMetaData:
    """The footer of a shard that this version can read; its metadata has the version of its schema under `key`.

    Raises:
        DataError: not a whole Parquet file, or of a schema that is newer or foreign.
    """
    try:
        metadata = pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file: {' '.join(str(error).split())}") from None
    found = version_of(metadata, key)
    if found not in readable:
        known = " and ".join(filter(None, (", ".join(readable[:-1]), readable[-1])))
        raise DataError(f"{path}: rollout schema {found}, this version reads {known}: use the version that wrote it")
    return metadata


def version_of(metadata: pq.FileMetaData, key: bytes = VERSION_KEY) -> str:
    return (metadata.metadata or {}).get(key, b"none").decode()
