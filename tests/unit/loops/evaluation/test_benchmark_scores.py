"""Figures of whole benchmarks, worked by hand, and the table that shows them."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from pangu_rl.config.benchmark import BenchmarkConfig
from pangu_rl.config.load import load_config
from pangu_rl.loops.evaluate import Answered
from pangu_rl.loops.evaluation.benchmark_scores import figure, figures_by_category, incomplete_questions
from pangu_rl.loops.evaluation.run_benchmarks import pieces
from pangu_rl.monitoring.benchmark_table import benchmark_table
from pangu_rl.monitoring.intervals import bootstrap, wilson
from pangu_rl.records import Extraction, Outcome, Part, Prompt
from tests.contracts.source_tree import ROOT
from tests.unit.rewards.builders import completion


def definition(name: str) -> BenchmarkConfig:
    return load_config(BenchmarkConfig, ROOT / "configs" / "eval" / "benchmarks" / f"{name}.yaml")


def answered(
    score: float | None, *, category: str = "c", group: str = "", rows: int = 2, said: str = "",
    outcome: Outcome | None = None, **extra: Any,
) -> Answered:  # fmt: skip
    if outcome is None:
        outcome = Outcome.TIMEOUT if score is None else Outcome.CORRECT if score == 1.0 else Outcome.INCORRECT
    prompt = Prompt(
        uid="u", messages=(), answer="x", source=category, extra={"group": group, "group_rows": rows, **extra}
    )
    return Answered(prompt, completion(said), Part(value=score, outcome=outcome))


def test_shares_have_wilsons_interval_and_means_a_bootstrap() -> None:
    found = figure(definition("chartqa"), [answered(1.0), answered(0.0), answered(1.0), answered(None)])
    low, high = wilson(2, 3)
    assert (found.value, found.low, found.high) == pytest.approx((200 / 3, 100 * low, 100 * high))
    assert (found.items, found.no_verdict, found.unread, found.unit) == (3, 1, 0, "%")
    scores = [1.0, 0.5, 0.75, 0.0, 1.0, 0.6]
    found = figure(definition("docvqa"), [answered(score) for score in scores])
    assert found.value == pytest.approx(100 * np.mean(scores)) and found.low < found.value < found.high
    assert found == figure(definition("docvqa"), [answered(score) for score in scores]), "a bootstrap is drawn once"


def test_answers_that_cannot_be_read_are_counted_and_wrong() -> None:
    found = figure(definition("mmstar"), [answered(1.0), answered(0.0, outcome=Outcome.UNPARSABLE)])
    assert (found.value, found.items, found.unread) == (50.0, 2, 1)


def test_what_a_judge_read_is_counted_apart() -> None:
    """Two answers that it alone read, one that it could not read either, and an audit of two that agrees on one."""
    readings = [("A", None), ("B", None), (None, None), ("A", True), ("A", False)]
    rows = [answered(1.0), answered(0.0), answered(0.0, outcome=Outcome.UNPARSABLE), answered(1.0), answered(1.0)]
    rows = [
        replace(row, part=replace(row.part, extraction=Extraction(judge="j", answer=answer, agrees=agrees)))
        for row, (answer, agrees) in zip(rows, readings, strict=True)
    ]
    found = figure(definition("mmstar"), rows)
    assert (found.value, found.items, found.unread) == (pytest.approx(60.0), 5, 1)
    assert (found.judged, found.audited, found.agreed) == (2, 2, 1)
    console = Console(width=80, record=True)
    shown = {"title": "MMStar", "split": "val", "figure": asdict(found), "left_out": 0, "categories": {}}
    console.print(benchmark_table([shown]))
    assert "judge comes to the rules' verdict on 1 of 2" in " ".join(console.export_text().split())


def test_a_question_in_rotations_is_right_where_all_are() -> None:
    rows = [answered(1.0, group="7"), answered(1.0, group="7"), answered(1.0, group="8"), answered(0.0, group="8")]
    assert figure(definition("mmbench"), rows).value == 50.0


def test_a_question_that_lacks_a_rotation_counts_nowhere() -> None:
    """Of four, one has a rotation without a verdict and one had a rotation left out; of the others one is all right."""
    rows = [
        *(answered(score, group="7") for score in (1.0, 1.0)),
        *(answered(score, group="8") for score in (1.0, 0.0)),
        *(answered(score, group="9") for score in (1.0, None)),
        *(answered(score, group="10", rows=3) for score in (1.0, 1.0)),
    ]
    found = figure(definition("mmbench"), rows)
    assert (found.value, found.items, found.no_verdict, found.incomplete) == (50.0, 4, 1, 3)
    assert incomplete_questions(definition("mmbench"), rows) == [
        "c, 9: 1 of its 2 rows have a verdict (u)", "c, 10: 2 of its 3 rows have a verdict (u, u)",
    ]  # fmt: skip
    rows = [answered(score, group=group) for score, group in ((1.0, "a"), (0.0, "a"), (1.0, "b"))]
    found = figure(definition("mme"), rows)
    assert (found.value, found.items, found.incomplete) == (50.0, 2, 1), "50 of questions, 0 of pictures"
    assert figure(definition("mmstar"), rows).items == 3, "its rows are questions of their own"


def test_ocrbench_is_of_a_thousand() -> None:
    found = figure(definition("ocrbench"), [answered(1.0)] * 3 + [answered(0.0)])
    assert (found.value, found.unit) == (750.0, "of 1000")


def test_mme() -> None:
    """Category a: 3 of 4 questions and 1 of 2 pictures, 75 + 50; b: 1 of 2 and 0 of 1, 50 + 0. Of 2 x 200."""
    rows = [
        *(answered(score, category="a", group=group) for score, group in ((1, "1"), (1, "1"), (1, "2"), (0, "2"))),
        *(answered(score, category="b", group="1") for score in (1, 0)),
    ]
    found = figure(definition("mme"), rows)
    assert (found.value, found.unit) == (175.0, "of 400") and found.low <= 175 <= found.high
    assert {name: part.value for name, part in figures_by_category(definition("mme"), rows).items()} == {
        "a": 125.0, "b": 50.0,
    }  # fmt: skip


def test_depths() -> None:
    """Errors of 0.1 and 0.3 over two points and of 0.2 over one: their mean is 0.2. The picture that is not read has no
    part in it, and is counted."""
    rows = [
        answered(0.5, said="(1,2): 1.1 (3,4): 2.6", points=[[1, 2], [3, 4]], depths=[1.0, 2.0]),
        answered(1.0, said="(1,2): 1.2", points=[[1, 2]], depths=[1.0]),
        answered(0.0, outcome=Outcome.UNPARSABLE, said="far", points=[[1, 2]], depths=[1.0]),
    ]
    found = figure(definition("nyu_depth_v2"), rows)
    assert found.value == pytest.approx(20.0) and (found.items, found.unread) == (3, 1)


def test_the_mean_of_categories() -> None:
    """Plots: 1 of 1; counts: 1 of 3. Their mean is 2/3, whereas 2 of 4 rows are right."""
    rows = [answered(1.0, category="plot"), *(answered(score, category="count") for score in (1.0, 0.0, 0.0))]
    found = figure(definition("mlvu"), rows)
    assert found.value == pytest.approx(200 / 3) and found.low <= found.value <= found.high


def test_rows_with_videos_are_asked_piece_by_piece() -> None:
    prompts = [answered(1.0).prompt] * 5
    assert [len(some) for some in pieces(prompts, 2)] == [2, 2, 1]
    assert pieces(prompts, 5) == [prompts] and pieces([], 2) == []


def test_spans_are_a_mean() -> None:
    found = figure(definition("charades_sta"), [answered(1.0), answered(0.25)])
    assert (found.value, found.unit) == (62.5, "mIoU %")


def test_detections_of_several_data_sets() -> None:
    """Pets: all found, 100; birds: nothing said that can be read, 0."""
    cat = '[{"bbox_2d": [0, 0, 100, 100], "label": "cat"}]'
    rows = [
        answered(1.0, category="pets", said=cat, objects={"cat": [[0, 0, 100, 100]]}),
        answered(0.0, category="birds", said="none", objects={"bird": [[0, 0, 100, 100]]}, outcome=Outcome.UNPARSABLE),
    ]
    assert figure(definition("odinw13"), rows).value == pytest.approx(50.0)


def test_a_detection_where_nothing_is_costs_precision() -> None:
    """Said before the one that is right, it makes the precision at every recall 1/2."""
    cat = "<|object_ref_start|>cat<|object_ref_end|><|box_start|>(000,000),(100,100)<|box_end|>"
    right = answered(1.0, said=cat, objects={"cat": [[0, 0, 100, 100]]})
    wrong = answered(0.0, said=cat, objects={})
    silent = answered(1.0, said="none", objects={})
    for rows, value in (([wrong, right], 50.0), ([silent, right], 100.0)):
        assert figure(definition("odinw13"), rows).value == pytest.approx(value)


def test_a_bootstrap_covers_what_it_should() -> None:
    """Of 200 draws of 50 normal values, the 95 % interval of the mean holds the true mean in about 95 %."""
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        values = generator.normal(size=50)
        low, high = bootstrap(50, lambda chosen, values=values: float(values[chosen].mean()), draws=300)
        held += low <= 0 <= high
    assert 180 <= held <= 198


def test_the_table() -> None:
    one = asdict(figure(definition("mmbench"), [answered(score, group=str(score), rows=1) for score in (1.0, 0.0)]))
    result = {"title": "MMBench", "split": "dev", "figure": one, "left_out": 3, "categories": {"a": one, "b": one}}
    console = Console(width=80, record=True)
    console.print(benchmark_table([result]))
    text = console.export_text()
    assert "MMBench" in text and "50.0 (9.5 - 90.5) %" in text and text.count("50.0") == 3
