"""Every shipped pipeline names operators that are there, with settings that they take."""

from __future__ import annotations

import pytest

from data_curation.pipeline.operator import declared
from data_curation.pipeline.registry import built_in, resolve_all
from pangu_rl.config.curate import CurateConfig, OperatorConfig
from pangu_rl.config.load import load_config
from pangu_rl.errors import ConfigError
from tests.contracts.source_tree import ROOT


@pytest.mark.parametrize("path", sorted((ROOT / "configs/curate").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_pipeline_can_start(path) -> None:
    assert resolve_all(load_config(CurateConfig, path).operators)


def test_every_operator_stands_in_the_documentation() -> None:
    text = (ROOT / "docs/curation.md").read_text(encoding="utf-8")
    assert [name for name in built_in() if f"| `{name}` |" not in text] == []


def test_a_name_that_is_none_is_told_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no operator 'repetitions'.*file.py:function: did you mean repetition\?$"):
        resolve_all([OperatorConfig(name="repetitions")])
    with pytest.raises(ConfigError, match="operator text_length: least is 'x'"):
        resolve_all([OperatorConfig(name="text_length", args={"least": "x"})])
    with pytest.raises(ConfigError, match="missing key keep"):
        resolve_all([OperatorConfig(name="language")])


def test_the_second_of_a_name_has_a_name_of_its_own() -> None:
    names = [one.name for one in resolve_all([OperatorConfig(name="repetition")] * 3)]
    assert names == ["repetition", "repetition~2", "repetition~3"]
    assert declared(resolve_all([OperatorConfig(name="repetition")])[0].function).cost == "cpu"


def test_helpers_of_an_operator_are_part_of_what_it_is() -> None:
    """`_tables` by way of `_parts` and of its own; a change in a helper is a change of the operator."""
    helpers = resolve_all([OperatorConfig(name="interleaved")])[0].identity()["helpers"]
    assert {"_tables", "_parts", "_drawn", "_embedded"} <= {name.rpartition(".")[2] for name in helpers}
    assert "helpers" not in resolve_all([OperatorConfig(name="text_length")])[0].identity()
