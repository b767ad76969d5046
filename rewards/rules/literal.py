"""Places that an answer writes as JSON, as Python or in tags -> **plain data**, with its keys or without them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from rewards.mathematics.guard import Refused, check_text
from rewards.mathematics.normalise import clean, unwrapped

MAX_CHARS = 8192
_TAG = re.compile(r"<\|(box|point|quad|object_ref)_(start|end)\|>")
_REFERENCE = re.compile(r"<\|object_ref_start\|>.*?<\|object_ref_end\|>", re.DOTALL)
# Of Qwen-VL, InternVL and UI-TARS: `<ref>cat</ref><box>(1,2),(3,4)</box>`, `<point>60 100</point>`.
_FOREIGN_TAG = re.compile(r"<ref>[^<]*+</ref>|</?(?:box|point|quad)>")
_FOREIGN_POINT = re.compile(r"<point> ?(\d++(?:\.\d++)?) (\d++(?:\.\d++)?) ?</point>")
_BETWEEN = re.compile(r"(?<=[])}])(?: ?; ?| ?,? and )(?=[\[({])")
_NUMBER = re.compile(r"-?\d{1,9}(?:\.\d{1,9})?")
_AROUND = re.compile(r"[\d\[\](){}\"']")
_BOX_KEYS = ("bbox_2d", "bbox", "box_2d", "box", "bboxes", "boxes", "bounding_box", "bounding_boxes")
_KEYS = (*_BOX_KEYS, "point_2d", "point", "points", "coordinate", "coordinates")
_CORNERS = (
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
)
_SIZED = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"))
"""Keys of a corner and of how far a box reaches from it."""
_POINT = ("x", "y")
_ABSENT = frozenset(("null", "none", "[]", "no box", "no object", "not present", "absent"))
# A quote closes where the structure goes on, so that one inside (`'boy's hat'`) does not. Linear: possessive, and a
# string that does not close runs to the end.
_STRING = re.compile(r"""(["'])((?:\\.?|(?!\1\s*+(?:[,:\]})]|\Z))[^\\])*+)(\1|\Z)""")
_PIECE = re.compile(rf"{_STRING.pattern}|[^\"']++")
_BRACKETS = str.maketrans("()", "[]", "\\")
_WORDS = {"None": "null", "True": "true", "False": "false"}
_WORD = re.compile("|".join(_WORDS))
_ESCAPED = re.compile(r"\\(.)")


def read_literal(text: str, count: int) -> Any:
    """Lists, numbers and null as Python data, out of JSON, Python or tags; of several keys of an object, what stands
    under the one with `count` numbers: 4 of a box, 2 of a point.

    Raises:
        Refused: it is none of these, too long, nested too deep, or has numbers that are not finite.
    """
    return places_of(read_data(text), count)


def read_data(text: str) -> Any:
    """The same with all keys.

    Raises:
        Refused: as `read_literal`.
    """
    if len(text) > MAX_CHARS:
        raise Refused(f"is longer than {MAX_CHARS} characters")
    cleaned = _unfenced(unwrapped(clean(text))).rstrip(". ")
    if not cleaned:
        raise Refused("is empty")
    if cleaned.casefold().lstrip(". ") in _ABSENT:
        return None
    cleaned = (
        _REFERENCE.sub("", cleaned)
        .replace("<|box_end|><|box_start|>", "],[")
        .replace("<|point_end|><|point_start|>", "],[")
    )
    if _TAG.search(cleaned):
        cleaned = f"[{_TAG.sub('', cleaned)}]"
    cleaned = _FOREIGN_TAG.sub("", _FOREIGN_POINT.sub(r"(\1,\2),", cleaned)).rstrip(", ")
    cleaned = _alone(_BETWEEN.sub(",", cleaned))
    raw, bare = _unfenced(text), cleaned.replace("\\", "")  # `\"` stands in a string, or it is LaTeX's and begins one
    for one in (raw, cleaned, bare):
        check_text(_STRING.sub("", one))
    for written in (raw, _PIECE.sub(_as_json, cleaned), _PIECE.sub(_as_json, bare)):
        for candidate in (written, f"[{written}]", f"{{{written}}}"):
            try:
                return json.loads(candidate, parse_constant=_not_finite)
            except (ValueError, RecursionError):
                continue
    raise Refused("is no box, point or list of them")


def _alone(text: str) -> str:
    """From the first bracket to the last, where the words around have no digit and no bracket: `The box is [...]`."""
    start = next((index for index, character in enumerate(text) if character in "[{("), 0)
    end = max(map(text.rfind, "]})"))
    around = text[:start] + text[end + 1 :]
    return text if end < start or _AROUND.search(around) else text[start : end + 1]


def places_of(value: Any, count: int) -> Any:
    """Data without its keys: `{"bbox_2d": [...]}` -> `[...]`.

    Raises:
        Refused: an object has no key of a place, or several and not just one with `count` numbers.
    """
    if isinstance(value, list):
        return [places_of(item, count) for item in value]
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    if not isinstance(value, dict):
        return value
    value = lower_keys(value)
    if not _named(value):
        if numbers := _spelled_out(value):
            return places_of(numbers, count)
        if len(value) == 1 and isinstance(place := next(iter(value.values())), list):
            return places_of(place, count)
    places = {key: places_of(value[key], count) for key in _named(value)}
    if not places:
        raise Refused("has no bbox_2d or point_2d")
    return _meant(places, count) if len(places) > 1 else next(iter(places.values()))


def names_a_place(value: Mapping[str, Any]) -> bool:
    """Whether `places_of` finds one in an object."""
    lowered = lower_keys(value)
    return bool(_named(lowered) or _spelled_out(lowered))


def lower_keys(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key.casefold(): item for key, item in value.items()}


def _spelled_out(value: Mapping[str, Any]) -> list[Any]:
    """The corners of a box, or a point, that has a key for each of its numbers."""
    for names in _CORNERS:
        if value.keys() >= set(names):
            return [value[name] for name in names]
    for names in _SIZED:
        if value.keys() >= set(names) and all(_is_number(value[name]) for name in names):
            x, y, width, height = (value[name] for name in names)
            return [x, y, x + width, y + height]
    return [value[name] for name in _POINT] if value.keys() >= set(_POINT) else []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _named(keys: Any) -> list[str]:
    return [key for key in _KEYS if key in keys]


def _meant(places: Mapping[str, Any], count: int) -> Any:
    fitting = [place for key, place in places.items() if _numbers_under(key, place) == count]
    if not fitting or any(place != fitting[0] for place in fitting):
        raise Refused(f"has {' and '.join(places)}, and nothing says which is meant")
    return fitting[0]


def _numbers_under(key: str, place: Any) -> int:
    """How many numbers one shape has; a box may be written as two corners."""
    if not isinstance(place, list) or key in _BOX_KEYS:
        return 4 if isinstance(place, list) else 0
    while place and isinstance(place[0], list):
        place = place[0]
    return len(place)


def _unfenced(text: str) -> str:
    return text.strip("$ `\n\r\t").removeprefix("json").strip()


def _as_json(piece: re.Match[str]) -> str:
    """Python's and LaTeX's spelling as JSON's; what stands between quotes is kept."""
    if piece[1] is None:
        text = _WORD.sub(lambda word: _WORDS[word[0]], piece[0].translate(_BRACKETS))
        return re.sub(r"(?<![\w.])0+(?=\d)", "", text)  # 008 is how the recipe writes 8
    if not piece[3]:
        return piece[0]
    try:
        return json.dumps(json.loads(f'"{piece[2]}"'))
    except ValueError:
        return json.dumps(_ESCAPED.sub(r"\1", piece[2]))


def _not_finite(name: str) -> float:
    raise Refused(f"has {name}")
