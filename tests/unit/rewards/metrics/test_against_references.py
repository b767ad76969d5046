"""Metrics equal what their published implementations say of the same answers.

`tests/data/metric_references.json` was made once by pycocotools 2.0.11 (boxes, masks), shapely 2.2.0 (polygons), the
package anls 0.0.2 (`anls_paper`) and the rules of VLMEvalKit (texts, numbers, letters, yes and no) on drawn cases.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from pangu_rl.data.benchmarks.masks import mask_runs
from rewards.metrics.detections import matched, mean_average_precision
from rewards.metrics.masks import points_in_mask
from rewards.metrics.option_letter import chosen_letter
from rewards.metrics.polygons import polygon_iou
from rewards.metrics.texts import ANLS_THRESHOLD, anls, exact_match, relaxed_accuracy, vqa_accuracy, yes_or_no
from tests.contracts.source_tree import ROOT

REFERENCES: dict[str, list[dict[str, Any]]] = json.loads((ROOT / "tests/data/metric_references.json").read_text())


def test_texts() -> None:
    for case in REFERENCES["texts"]:
        said, golds = case["said"], case["golds"]
        assert vqa_accuracy(said, golds) == pytest.approx(case["vqa_accuracy"]), case
        assert anls(said, golds) == pytest.approx(case["anls"]), case
        # At exactly the threshold the package follows the paper's formula, the evaluation servers do not.
        assert case["anls_paper"] == pytest.approx(case["anls"] if case["anls"] != ANLS_THRESHOLD else 0.0), case
        assert exact_match(said, golds) == case["exact"], case
    scores = {case["vqa_accuracy"] for case in REFERENCES["texts"]}
    assert {0.0, 0.6, 1.0} <= scores


def test_numbers() -> None:
    for case in REFERENCES["numbers"]:
        assert relaxed_accuracy(case["said"], case["golds"]) == case["relaxed_accuracy"], case


def test_letters() -> None:
    for case in REFERENCES["choices"]:
        assert chosen_letter(case["said"], case["options"]) == case["letter"], case


def test_yes_and_no() -> None:
    for case in REFERENCES["yes_no"]:
        assert yes_or_no(case["said"]) == case["word"], case


def test_mean_average_precision_with_one_confidence() -> None:
    for case in REFERENCES["detections"]:
        pictures = [matched(_boxes(picture["found"]), _boxes(picture["gold"])) for picture in case["pictures"]]
        assert mean_average_precision(pictures) == pytest.approx(case["map"], abs=1e-9)
        assert 0.1 < case["map"] < 0.9


def test_masks() -> None:
    for case in REFERENCES["masks"]:
        runs = mask_runs(np.array(case["mask"], dtype=np.uint8))
        assert runs == {"size": list(np.shape(case["mask"])), "counts": case["counts"]}
        assert sum(runs["counts"][1::2]) == case["area"]
        assert points_in_mask(case["points"], runs) == case["inside"]


def test_polygons() -> None:
    for case in REFERENCES["polygons"]:
        assert polygon_iou(case["one"], case["other"]) == pytest.approx(case["iou"], abs=1e-9), case
        assert polygon_iou(case["other"][::-1], case["one"]) == pytest.approx(case["iou"], abs=1e-9)


def _boxes(named: dict[str, list[list[int]]]) -> dict[str, list[Any]]:
    return {name: [tuple(box) for box in boxes] for name, boxes in named.items()}
