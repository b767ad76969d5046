"""The page of settings: followed through its links, it says of every stage what its own schema says."""

from __future__ import annotations

import re

import pytest

from pangu_rl.config.keys import keys_of
from pangu_rl.config.pages.reference import DESCRIBED, _row, _text, reference

SECTIONS = dict(re.findall(r"^### (.+)\n((?:(?!^##).*\n?)*)", reference(), re.MULTILINE))


def rows_of(title: str) -> dict[str, str]:
    """Setting -> its row under the heading `title`, or in the section that it is as."""
    own = {re.match(r"\| `(.+?)`", line)[1]: line for line in SECTIONS[title].splitlines() if line.startswith("| `")}
    whole = re.search(r"s of \[(\w+)\]\(#\w+-([\w-]+)\)", SECTIONS[title])
    return (rows_of(f"{whole[1]}: {whole[2].replace('-', ' ')}") if whole else {}) | own


@pytest.mark.parametrize("name", DESCRIBED)
def test_every_setting_stands_at_its_stage_or_behind_its_link(name: str) -> None:
    wanted = {key.name: _row(key) for key in keys_of(DESCRIBED[name][1])}
    found = {}
    for title in SECTIONS:
        if title.startswith(f"{name}: "):
            found |= rows_of(title)
    # A section's own line is its heading's text, unless it stands in another section.
    assert found == {key: row for key, row in wanted.items() if key in found}
    assert {key for key in wanted if "." in key} <= set(found)


@pytest.mark.parametrize(
    ("stage", "functions"),
    [
        ("grpo", '[{"name": "boxed_accuracy"}, {"name": "boxed_format", "weight": 0.1}]'),
        ("difficulty", '[{"name": "boxed_accuracy"}]'),
        ("pairs", '[{"name": "graded"}]'),
        ("iterative", '[{"name": "graded"}]'),
        ("eval", '[{"name": "boxed_accuracy"}]'),
    ],
)
def test_a_default_is_the_stages_own(stage: str, functions: str) -> None:
    assert f"| `{functions}` |" in rows_of(f"{stage}: rewards")["rewards.functions"]


def test_a_section_says_what_it_is_for_in_this_stage() -> None:
    assert "Answers are drawn at temperature 0" in SECTIONS["eval: rollout"]


def test_signs_stand_for_themselves_in_code_alone() -> None:
    assert _text("up to `</think>`, r < 1, `a|b`") == "up to `</think>`, r &lt; 1, `a\\|b`"
