"""Objects become questions whose answers the graders take; what is worked out by hand stands beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_curation.operators.grounding._objects import inner_point
from data_curation.operators.grounding.depths_at_points import depths_at_points
from data_curation.operators.grounding.point_counts import point_counts
from data_curation.operators.grounding.region_tasks import region_tasks
from data_curation.pipeline.record import Drop, Record
from data_curation.pipeline.run import run_pipeline
from pangu_rl.data.benchmarks.masks import mask_runs
from pangu_rl.data.fields.bad_row import BadRow
from pangu_rl.grounding_labels import label_problem
from pangu_rl.records import Outcome
from rewards.rules.dispatch import grade_directly
from rewards.rules.gold import Gold
from tests.unit.data_curation.operators.test_annotations import on_picture, picture  # noqa: F401
from tests.unit.data_curation.pipeline.builders import lines_of, pipeline, write_jsonl

OBJECTS = [
    {"name": "cat", "box": [50, 50, 100, 100], "caption": "a cat that sleeps"},
    {"name": "cat", "box": [0, 0, 50, 50]},
    {"name": "dog", "box": [150, 0, 200, 50]},
]
CAT, DOG, CAR = (f"<|object_ref_start|>{name}<|object_ref_end|>" for name in ("cat", "dog", "car"))


def box(corners: str) -> str:
    return f"<|box_start|>{corners}<|box_end|>"


def point(corner: str) -> str:
    return f"<|point_start|>{corner}<|point_end|>"


ABSENT = {"absent_objects": {"names": ["car"]}}


def graded(row: dict[str, Any]) -> Outcome:
    said = row["messages"][-1]["content"]
    assert label_problem(said) is None
    return grade_directly(said, Gold(row["answer"], row["answer_type"], coordinates=row["coordinates"])).outcome


def test_each_region_is_referred_to_or_asked_for(picture: Path) -> None:  # noqa: F811
    """In a picture of 200 x 100, 50 of its width are 250 thousandths and 50 of its height 500."""
    record = on_picture(picture, objects=OBJECTS, curation=ABSENT)
    rows = region_tasks(record, referring=0.0).rows
    assert [(row["messages"][0]["content"], row["messages"][1]["content"]) for row in rows] == [
        ("Detect all cat in the image.", CAT + box("(250,500),(500,999)") + box("(000,000),(250,500)")),
        (
            "Detect all dog in the image.",
            DOG + box("(750,000),(999,500)"),
        ),
        ("Detect all car in the image.", CAR),
    ]
    assert [graded(row) for row in rows] == [Outcome.CORRECT] * 3 and "objects" not in rows[0]
    told = region_tasks(record, referring=1.0).rows
    assert [row["messages"][1]["content"] for row in told[:3]] == ["a cat that sleeps", "cat", "dog"]
    assert told[0]["messages"][0]["content"] == "What is in the region <|box_start|>(250,500),(500,999)<|box_end|>?"
    assert len(told) == 4 and told[3]["answer"] == CAR
    assert region_tasks(record, share=0.0) is None and region_tasks(on_picture(picture)) is None
    many = [Record({**record.row, "objects": OBJECTS[2:]}, f"r{n}", "", picture) for n in range(200)]
    count = sum(region_tasks(one).rows[0]["messages"][1]["content"] == "dog" for one in many)
    assert 70 <= count <= 130  # 100, and four standard deviations of 7.1


def test_objects_are_pointed_to_and_counted(picture: Path) -> None:  # noqa: F811
    rows = point_counts(on_picture(picture, objects=OBJECTS, curation=ABSENT)).rows
    assert [row["messages"][1]["content"] for row in rows] == [
        f"{CAT}{point('(125,250)')}{point('(375,750)')} 2",
        f"{DOG}{point('(875,250)')} 1",
        f"{CAR} 0",
    ]
    assert [graded(row) for row in rows] == [Outcome.CORRECT] * 3
    assert rows[0]["answer"] == "[[250, 500, 500, 999], [0, 0, 250, 500]]"
    pointed = point_counts(on_picture(picture, objects=[{"name": "bee", "point": [1, 1]}])).rows
    assert "answer" not in pointed[0] and pointed[0]["messages"][1]["content"].endswith("(005,010)<|point_end|> 1")
    same = [{"name": "bee", "point": [1, 1]}] * 2
    assert isinstance(point_counts(on_picture(picture, objects=same)), Drop)
    with pytest.raises(BadRow, match=r"objects\[0\] has no name"):
        point_counts(on_picture(picture, objects=[{"point": [1, 1]}]))


def test_a_point_inside_of_an_outline_that_bends() -> None:
    """An L whose middle, (50, 50), is outside: its arms are 20 wide, so the place farthest from its edge is where they
    meet, at (11, 89) up to the raster."""
    corners = [[0, 0], [20, 0], [20, 80], [100, 80], [100, 100], [0, 100]]
    x, y = inner_point({"polygon": corners}, (100, 100))
    assert x < 20 and y > 80
    pixels = np.zeros((100, 100), bool)
    pixels[:, :20] = pixels[80:, :] = True
    x, y = inner_point({"mask": mask_runs(pixels)}, (100, 100))
    assert pixels[int(y), int(x)] and x < 20 and y > 80
    assert inner_point({"box": [0, 10, 4, 20]}, (100, 100)) == (2, 15)
    with pytest.raises(BadRow, match="mask has the size"):
        inner_point({"mask": mask_runs(pixels)}, (100, 50))


def test_depths_at_points(picture: Path) -> None:  # noqa: F811
    camera = {"fx": 518.86, "fy": 519.47, "cx": 325.6, "cy": 253.7, "width": 640, "height": 480}
    depths = [{"point": [50, 50], "metres": 2.314}, {"point": [100, 0], "metres": 0}, {"point": [199, 99], "metres": 7}]
    row = depths_at_points(on_picture(picture, camera=camera, depths=depths)).row
    asked, said = (turn["content"] for turn in row["messages"])
    assert said == "<|point_start|>(250,500)<|point_end|> 2.31 m, <|point_start|>(995,990)<|point_end|> 7.00 m"
    assert graded(row) == Outcome.CORRECT and "depths" not in row and "camera" not in row
    for told in (
        "$f_x=518.86$, $f_y=519.47$",
        "image width 640 and height 480",
        r"\begin{bmatrix} 518.86, & 0, & 325.6 \\ 0, & 519.47, & 253.7 \\ 0, & 0, & 1 \end{bmatrix}",
        "the points at <|point_start|>(250,500)<|point_end|>, <|point_start|>(995,990)<|point_end|>. Respond",
    ):
        assert told in asked
    assert isinstance(depths_at_points(on_picture(picture, camera=camera, depths=depths[1:2])), Drop)
    assert depths_at_points(on_picture(picture)) is None
    with pytest.raises(BadRow, match="no number for 'cy'"):
        depths_at_points(on_picture(picture, camera={"fx": 1, "fy": 1, "cx": 1}, depths=depths))
    with pytest.raises(BadRow, match="leaves the picture"):
        depths_at_points(on_picture(picture, camera=camera, depths=[{"point": [201, 5], "metres": 1}]))


def test_depths_are_read_off_a_map(picture: Path) -> None:  # noqa: F811
    depth = np.full((100, 200), 1500, np.uint16)
    depth[50:, :100] = 2250
    Image.fromarray(depth).save(picture / "d.png")
    row = on_picture(picture, camera={"fx": 1, "fy": 1, "cx": 1, "cy": 1}, depth_map="d.png", objects=OBJECTS)
    said = depths_at_points(row).row["messages"][1]["content"]
    assert said.replace("<|point_start|>", "").replace("<|point_end|>", "") == (
        "(375,750) 2.25 m, (125,250) 1.50 m, (875,250) 1.50 m"
    )
    with pytest.raises(BadRow, match="16 bits and the picture's size"):
        depths_at_points(on_picture(picture, camera={"fx": 1}, depth_map="p.png", objects=OBJECTS))


def test_absent_names_are_drawn_as_often_as_they_stand_elsewhere(tmp_path: Path) -> None:
    """Names of dogs stand 500 times and `bee` 100 times: of the rows that show a cat, five in six ask for a dog. A
    brown dog is not asked for where a dog is."""
    shown = [["dog"], ["dog"], ["dog"], ["bee"], ["cat"], ["cat"], ["cat"], ["cat"], ["dog", "brown dog"]]
    rows = [{"id": f"r{n}", "objects": [{"name": name} for name in shown[n % 9]]} for n in range(900)]
    source = write_jsonl(tmp_path / "in.jsonl", [*rows, {"id": "none"}])
    run_pipeline(pipeline(source, tmp_path / "out", [{"name": "absent_objects"}]))
    noted = lines_of(tmp_path / "out/rows")
    assert "curation" not in noted[-1]
    drawn = [(row["objects"], row["curation"]["absent_objects"]["names"]) for row in noted[:-1]]
    assert not any("dog" in name for objects, names in drawn if "dog" in str(objects) for name in names)
    of_cats = [names[0] for objects, names in drawn if objects == [{"name": "cat"}]]
    share = sum("dog" in name for name in of_cats) / len(of_cats)
    assert share == pytest.approx(5 / 6, abs=0.08)  # four standard deviations of 400 draws
