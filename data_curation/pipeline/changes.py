"""Two plans of one folder of output -> **the first stage that is another one**, and by what."""

from __future__ import annotations

from typing import Any


def first_change(before: dict[str, Any], now: dict[str, Any]) -> tuple[int, str] | None:
    """Number of the stage and what differs, by name; None where all that was done holds."""
    if before.get("version") != now["version"]:
        return 0, "another version of pangu_rl has made them"
    if before["inputs"] != now["inputs"]:
        return 0, _inputs(before["inputs"], now["inputs"])
    for number, (old, new) in enumerate(zip(before["stages"], now["stages"], strict=False)):
        if old["digest"] != new["digest"]:
            return number, _operators(_all(old), _all(new)) or "rows are written by another stage"
    if len(before["stages"]) != len(now["stages"]):
        return min(len(before["stages"]), len(now["stages"])), "there are more stages, or fewer"
    return None


def _inputs(old: dict[str, Any], new: dict[str, Any]) -> str:
    files, others = ({file["name"]: file for file in side["files"]} for side in (old, new))
    if changed := [name for name in others if name in files and others[name] != files[name]]:
        return f"input {changed[0]} has other rows"
    if others.keys() != files.keys():
        return f"the input was {', '.join(files)} and is {', '.join(others)}"
    for key in ("shard_mib", "media_root"):
        if old[key] != new[key]:
            return f"{key} was {old[key]} and is {new[key]}"
    return "the order of the input is another one"


def _all(stage: dict[str, Any]) -> list[dict[str, Any]]:
    return [*stage["operators"], *([stage["closing"]] if stage["closing"] else [])]


def _operators(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> str:
    for one, other in zip(old, new, strict=False):
        if one["name"] != other["name"]:
            return f"operator {one['name']} was there, and {other['name']} is"
        args, others = one["args"], other["args"]
        if different := [key for key in {**args, **others} if args.get(key) != others.get(key)]:
            key = different[0]
            return f"operator {one['name']}: {key} was {args.get(key)!r} and is {others.get(key)!r}"
        if (one["code"], one.get("helpers")) != (other["code"], other.get("helpers")):
            return f"operator {one['name']}: its code was changed"
        if one.get("files") != other.get("files"):
            return f"operator {one['name']}: a file that it names was changed"
    if len(old) != len(new):
        longer = max(old, new, key=len)[min(len(old), len(new))]["name"]
        return f"operator {longer} {'was taken out' if len(old) > len(new) else 'is new'}"
    return ""
