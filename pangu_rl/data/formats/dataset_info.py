"""LLaMA-Factory's `dataset_info.json#NAME` -> **the data file that the entry names, and the format it describes**."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pangu_rl.data.fields.bad_row import BadRow, Row
from pangu_rl.data.fields.columns import Kind
from pangu_rl.data.formats import alpaca, sharegpt
from pangu_rl.data.formats.format import Format
from pangu_rl.errors import DataError

ALPACA = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "history": "history",
    "system": "system",
    "tools": "tools",
    "images": "images",
    "videos": "videos",
    "chosen": "chosen",
    "rejected": "rejected",
}
"""Its names of roles of columns -> the columns that stand for them by default."""
SHAREGPT = {
    "messages": "conversations",
    **{key: key for key in ("system", "tools", "images", "videos", "chosen", "rejected")},
}
TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}
_KNOWN = {"file_name", "formatting", "columns", "tags", "ranking"}


def described(path: Path) -> tuple[Path, Format]:
    """The data file and the format of the entry that `path` names.

    Raises:
        DataError: no such file or entry, or one with a key that is not read here.
    """
    name, _, entry = path.name.partition("#")
    info = path.with_name(name)
    try:
        tree = json.loads(info.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{info}: no dataset_info.json that can be read: {error}") from None
    if not isinstance(tree, dict) or not isinstance(tree.get(entry), dict):
        known = ", ".join(sorted(tree)[:10]) if isinstance(tree, dict) else "none"
        raise DataError(f"{info}: describes no {entry!r}; it has {known}")
    found = tree[entry]
    if unknown := sorted(set(found) - _KNOWN):
        raise DataError(f"{info}, {entry}: key {unknown[0]} is not read: give a local file by file_name")
    if not isinstance(found.get("file_name"), str):
        raise DataError(f"{info}, {entry}: names no file_name")
    return info.parent / found["file_name"], _format(found, f"{info}, {entry}")


def _format(entry: Mapping[str, Any], where: str) -> Format:
    kind = entry.get("formatting", "alpaca")
    if kind not in ("alpaca", "sharegpt"):
        raise DataError(f"{where}: formatting {kind!r} is neither alpaca nor sharegpt")
    base, defaults = (alpaca.FORMAT, ALPACA) if kind == "alpaca" else (sharegpt.FORMAT, SHAREGPT)
    given, tags = entry.get("columns") or {}, {**TAGS, **(entry.get("tags") or {})}
    if unknown := sorted((set(given) - set(defaults)) | (set(tags) - set(TAGS))):
        raise DataError(f"{where}: {unknown[0]} is not read")
    renamed = {given[role]: column for role, column in defaults.items() if given.get(role)}
    # An entry that lists its columns reads no others, but for those that it cannot do without.
    used = frozenset(renamed) | ({"instruction"} if not given and kind == "alpaca" else set())
    used = used or base.used

    def convert(row: Row, kind_of_row: Kind) -> Row:
        own = {renamed.get(key, key): value for key, value in row.items() if key in used or not given}
        if kind == "sharegpt":
            for column in ("conversations", "chosen", "rejected"):
                if column in own:
                    own[column] = _retagged(own[column], tags)
        return base.convert(own, kind_of_row)

    return Format(
        name=f"{base.name} of dataset_info.json",
        shown=base.shown,
        recognises=lambda row: True,
        convert=convert,
        used=used if given else base.used,
    )


def _retagged(turns: Any, tags: Mapping[str, str]) -> Any:
    if isinstance(turns, dict):
        return _retagged([turns], tags)[0]
    if not isinstance(turns, list):
        raise BadRow("the column of the messages is no list of turns")
    roles = {tags[tag]: TAGS[tag] for tag in TAGS if tag not in ("role_tag", "content_tag")}
    keys = {tags["role_tag"]: "from", tags["content_tag"]: "value"}
    retagged = []
    for turn in turns:
        own = {keys.get(key, key): value for key, value in turn.items()} if isinstance(turn, dict) else turn
        if isinstance(own, dict) and own.get("from") in roles:
            own["from"] = roles[own["from"]]
        retagged.append(own)
    return retagged
