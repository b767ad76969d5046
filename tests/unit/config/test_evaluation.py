"""Rules of an evaluation: picture sizes, and the grid of the search over them."""

from __future__ import annotations

import pytest

from pangu_rl.config.evaluation import EvalConfig
from pangu_rl.config.load import checked
from pangu_rl.config.names.named_files import named_files
from pangu_rl.errors import ConfigError

SMALL, LARGE = 4 * 784, 64 * 784
ONE = {"definition": "chartqa.yaml", "file": "chartqa.parquet"}


def tree(**sections: dict) -> dict:
    """Two sets, a small grid."""
    base = {
        "model": {"path": "m"},
        "data": {"sets": {"dev": "dev.jsonl", "test": "test.jsonl"}, "max_prompt_tokens": 64},
        "rollout": {"max_new_tokens": 8},
        "trainer": {"run_dir": "run"},
    }
    for name, section in sections.items():
        base[name] = base.get(name, {}) | section
    return base


def test_the_grid_is_mindvls_by_default() -> None:
    grid = checked(EvalConfig, tree(resolutions={}), "test").resolutions
    assert grid.min_pixels == (3136, 12544, 25088, 50176)
    assert grid.max_pixels == (1003520, 1605632, 2007040, 2408448, 3211264, 6422528)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"resolutions": {"min_pixels": []}}, "resolutions.min_pixels"),
        ({"resolutions": {"max_pixels": []}}, "resolutions.max_pixels"),
        ({"resolutions": {"min_pixels": [500]}}, "greater than or equal to 784"),
        (
            {"resolutions": {"min_pixels": [SMALL, LARGE + 1], "max_pixels": [LARGE]}},
            "min_pixels 50177 exceeds max_pixels 50176: leave one of them out",
        ),
        ({"resolutions": {"max_pixels": [LARGE, LARGE * 30, LARGE]}}, "max_pixels has 50176 twice"),
        ({"resolutions": {"choose_on": "val"}}, "choose_on is 'val', data.sets has dev, test"),
        (
            {"resolutions": {}, "data": {"min_pixels": SMALL, "max_pixels": LARGE}},
            "both set: a grid has its own limits",
        ),
        ({"data": {"min_pixels": SMALL}}, "set both or neither"),
        ({"data": {"sets": {}}}, "data.sets and data.benchmarks: give one of them"),
        ({"data": {"benchmarks": {"a": ONE}}}, "data.sets and data.benchmarks: give one of them"),
        ({"data": {"sets": {}, "benchmarks": {"a": ONE | {"min_pixels": SMALL}}}}, "set both or neither"),
        (
            {"data": {"sets": {}, "benchmarks": {"a": ONE}, "prompts": "p.yaml"}},
            "data.prompts is for data.sets: a benchmark's definition says",
        ),
        ({"data": {"sets": {}, "benchmarks": {"a": ONE}}, "resolutions": {}}, "has its own picture sizes"),
        (
            {"data": {"sets": {}, "benchmarks": {"a": ONE}}, "rewards": {"functions": [{"name": "counting"}]}},
            "a benchmark has its own metric",
        ),
        ({"data": {"min_pixels": LARGE, "max_pixels": SMALL}}, "min_pixels 50176 exceeds max_pixels 3136"),
    ],
)
def test_what_is_no_grid_is_refused(sections: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checked(EvalConfig, tree(**sections), "test")


def test_benchmarks_name_their_files() -> None:
    config = checked(EvalConfig, tree(data={"sets": {}, "benchmarks": {"a": ONE}}), "test")
    assert named_files(config) == {
        "model.path": "m",
        "data.benchmarks.a.definition": "chartqa.yaml",
        "data.benchmarks.a.file": "chartqa.parquet",
    }
