"""Which rows each filter takes, what is counted, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pangu_rl.config.export import ExportConfig
from pangu_rl.config.load import checked
from pangu_rl.errors import ConfigError, DataError
from rollout.export.export import preview
from tests.unit.rollout.export.exporting import exported, manifest_of


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 10),
        ({"outcome": ["correct"]}, 4),
        ({"outcome": ["correct", "timeout"]}, 5),
        ({"score": ["boxed_accuracy>=1"]}, 4),
        ({"score": ["boxed_accuracy < 0.5"]}, 5),
        ({"score": ["boxed_format=1", "reward>0.5"]}, 4),
        ({"min_tokens": 4}, 3),
        ({"max_tokens": 4}, 8),
        ({"min_tokens": 4, "max_tokens": 4}, 1),
        ({"finish": ["length"]}, 1),
        ({"steps": "2"}, 4),
        ({"steps": ":1"}, 6),
        ({"pass_rate": "0.5:0.6"}, 8),
        ({"pass_rate": "0.1:"}, 8),
        ({"pass_rate": ":0"}, 2),
        ({"where": "len(images) = 1"}, 2),
        ({"where": "score['boxed_accuracy'] = 0 AND text LIKE '%blue%'"}, 1),
        ({"where": "list_bool_or(list_transform(parts, lambda p: p.outcome = 'timeout'))"}, 1),
        ({"where": "sampling.temperature = 1 and rollouts.weight_version = 2"}, 4),
        ({"where": "TEXT LIKE '%blue%'"}, 1),
    ],
    ids=str,
)
def test_rows_of_a_filter(run: Path, options: dict, count: int) -> None:
    assert preview([run], ExportConfig(**options))["rows"] == count


def test_pass_rates_are_those_of_the_chosen_steps(run: Path) -> None:
    """In step 1 alone, 1+1 was answered right once in three verdicts."""
    assert preview([run], ExportConfig(steps="1", pass_rate="0.3:0.4"))["rows"] == 4


def test_each_filter_is_counted_in_its_order(run: Path, tmp_path: Path) -> None:
    exported(run, tmp_path / "out", steps="1:", outcome=["correct"], max_tokens=4, pass_rate="0.6:", where="step = 2")
    manifest = manifest_of(tmp_path / "out")
    assert manifest["counts"] == {
        "stored": 10,
        "steps 1:": 10,
        "outcome correct": 4,
        "max_tokens 4": 3,
        "where step = 2": 2,
        "pass_rate 0.6:": 2,
    }
    assert manifest["filters"] == {
        "steps": "1:",
        "outcome": ["correct"],
        "max_tokens": 4,
        "pass_rate": "0.6:",
        "where": "step = 2",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score": ["boxed_acuracy>1"]}, "no reward part 'boxed_acuracy': did you mean boxed_accuracy"),
        ({"score": ["zzz>1"]}, "no reward part 'zzz': there are reward, boxed_accuracy, boxed_format"),
        ({"where": "respnse_tokens > 3"}, "no column 'respnse_tokens': did you mean response_tokens"),
        ({"where": "current_date > 1"}, "no column 'current_date'"),
        ({"where": "step"}, "is BIGINT, not true or false"),
        ({"where": "step >"}, "not one SQL condition: syntax error"),
        ({"where": ""}, "not one SQL condition"),
        ({"where": "true) OR (true"}, "not one SQL condition: syntax error"),
        ({"where": "true; DROP VIEW rollouts"}, "not one SQL condition"),
        ({"where": "true, false"}, "not one SQL condition"),
        ({"where": "step > (SELECT 1)"}, "holds a subquery; it is asked of each row alone"),
        ({"where": "sum(step) OVER () > 1"}, "holds a window"),
        ({"where": "sum(step) > 1"}, "aggregate"),
        ({"where": "random() > 0.5"}, r"random\(\) is not the same every time"),
        ({"where": "now() IS NULL"}, r"now\(\) is not the same every time"),
        ({"where": "nonsense(step)"}, "nonsense does not exist"),
        ({"where": "text > 5"}, "Cannot compare values of type VARCHAR"),
        ({"where": "text::INT > 5"}, "--where 'text::INT > 5': Could not convert string"),
        ({"where": "content_of(read_text('/etc/passwd'))"}, "does not exist"),
    ],
    ids=str,
)
def test_what_a_filter_may_not_be_is_one_line(run: Path, options: dict, message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message) as caught:
        preview([run], ExportConfig(**options))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"finish": ["length"], "outcome": ["correct"]}, "finish length leaves none of 4 rows"),
        ({"pass_rate": "0.9:"}, "pass_rate 0.9: leaves none of 10 rows"),
        ({"steps": "7:9"}, "steps 7:9: no rollouts there; the runs have steps 1 to 2"),
        ({"to": "iterative", "where": "step = 2"}, "4 rows pass the filters, hard groups: none"),
    ],
    ids=str,
)
def test_an_empty_result_says_what_took_the_last_row(run: Path, tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        exported(run, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score": ["accuracy"]}, "'accuracy': write it as PART>=NUMBER"),
        ({"steps": "3:1"}, "3:1 is empty: write the lower end first"),
        ({"steps": "a:b"}, "'a:b': write it as LOW:HIGH"),
        ({"pass_rate": "1:2:3"}, "'1:2:3': write it as LOW:HIGH"),
        ({"min_tokens": 5, "max_tokens": 4}, "min_tokens 5 exceeds max_tokens 4"),
        ({"outcome": ["right"]}, "'correct', 'incorrect'"),
        ({"near_duplicates": 1.5}, "near_duplicates is 1.5"),
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused_before_anything_is_read(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checked(ExportConfig, options, "export")
