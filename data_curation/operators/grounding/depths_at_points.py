"""How far away is what is at a point, in metres (openPangu-VL, appendix B.2, NYUDepthV2).

A row's camera and depths -> **a question in the words of the paper, with its answer**.
"""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydantic import PositiveFloat, PositiveInt

from data_curation.operators.annotations.objects_to_labels import in_thousandths
from data_curation.operators.grounding._objects import inner_point, task
from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Edit, Record, Verdict
from pangu_rl.data.fields.bad_row import BadRow, Row
from pangu_rl.grounding_labels import Corner, Shape, write_shape

ASK = (
    "Here are the detailed camera parameters for the image. Camera intrinsic parameters: Focal length $f_x={fx}$, "
    "$f_y={fy}$. Principal point coordinate locates at $c_x={cx}$ and $c_y={cy}$, when image width {width} and height "
    "{height}. We do not consider distortion parameters here. Therefore, the intrinsic matrix "
    "$K = \\begin{bmatrix} {fx}, & 0, & {cx} \\\\ 0, & {fy}, & {cy} \\\\ 0, & 0, & 1 \\end{bmatrix}$. Here, we take "
    "the camera coordinate system as the world coordinate system. Estimate the absolute depth between the photographer "
    "and the points at {points}. Respond with their point coordinates and corresponding absolute depth in meters."
)


@row_operator(cost="cpu")
def depths_at_points(
    record: Record, *, ask: str = ASK, depth_unit: PositiveFloat = 0.001, most_points: PositiveInt = 8
) -> Verdict:
    """Of a row with one picture and `camera` (`fx`, `fy`, `cx`, `cy`, and `width` and `height` where they are not the
    picture's): either `depths`, each with a `point` in pixels and `metres`, or `depth_map`, a grey 16-bit PNG of the
    picture's size in steps of `depth_unit` metres, which is read at a point inside of each of `objects`. Points without
    a depth are left out, and so is the second of two that are one in thousandths."""
    if not record.row.get("camera"):
        return None
    if len(record.images) != 1:
        raise BadRow(f"key camera is of one picture, and images names {len(record.images)}")
    size = record.picture(record.images[0]).size
    read = _of_map(record, size, depth_unit) if record.row.get("depth_map") else _given(record.row)
    found: dict[Corner, float] = {}
    for point, metres in read:
        if not (0 <= point[0] <= size[0] and 0 <= point[1] <= size[1]):
            raise BadRow(f"depths: point {list(point)} leaves the picture of {size[0]} x {size[1]}")
        if math.isfinite(metres) and round(metres, 2) > 0:
            found.setdefault(in_thousandths(point, size), metres)
    if not found:
        return Drop("no depth", "no point of the row has one")
    chosen = list(found.items())[:most_points]
    points = [write_shape(Shape("point", (corner,))) for corner, _ in chosen]
    said = ", ".join(f"{point} {metres:.2f} m" for point, (_, metres) in zip(points, chosen, strict=True))
    gold = {"answer": said, "answer_type": "depths", "coordinates": "0-999"}
    row = task(record, _asked(ask, record.row["camera"], size, ", ".join(points)), said, **gold)
    return Edit(row, "depths became a question")


def _asked(ask: str, camera: Row, size: tuple[int, int], points: str) -> str:
    sides = dict(zip(("width", "height"), size, strict=True))
    try:
        numbers = {key: float(camera[key]) for key in ("fx", "fy", "cx", "cy")}
        numbers |= {key: float(camera.get(key) or side) for key, side in sides.items()}
    except (KeyError, TypeError, ValueError) as problem:
        raise BadRow(f"key camera has no number for {problem}: it needs fx, fy, cx and cy in pixels") from None
    for key, number in numbers.items():
        ask = ask.replace(f"{{{key}}}", f"{number:g}")
    return ask.replace("{points}", points)


def _given(row: Row) -> list[tuple[tuple[float, float], float]]:
    try:
        return [_depth(one["point"], one["metres"]) for one in row.get("depths") or ()]
    except (KeyError, TypeError, ValueError) as problem:
        raise BadRow(f"key depths: {problem}: each needs a point of two numbers and metres") from None


def _depth(point: tuple[float, float], metres: float) -> tuple[tuple[float, float], float]:
    x, y = point
    return (float(x), float(y)), float(metres)


def _of_map(record: Record, size: tuple[int, int], unit: float) -> list[tuple[tuple[float, float], float]]:
    path = record.row["depth_map"]
    try:
        depth = np.asarray(Image.open(io.BytesIO(record.content(path))))
    except (OSError, UnidentifiedImageError) as problem:
        raise BadRow(f"depth_map {path}: {problem}") from None
    if depth.shape != size[::-1] or depth.dtype.itemsize < 2:
        said = f"{depth.dtype} {depth.shape[::-1]}, the picture has {size}"
        raise BadRow(f"depth_map {path}: {said}: it needs 16 bits and the picture's size")
    found = []
    for described in record.row.get("objects") or ():
        x, y = inner_point(described, size)
        metres = float(depth[min(int(y), size[1] - 1), min(int(x), size[0] - 1)]) * unit
        found.append(((x, y), metres))
    return found
