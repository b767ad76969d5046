"""Part a, with the wheels at hand: the table of facts is what they say. Not collected without being named."""

from __future__ import annotations

import pytest

from tests.ascend.npu_facts import facts, table
from tests.ascend.wheels import wheel


@pytest.mark.parametrize("release", sorted(table()))
def test_the_table_is_what_the_wheel_says(release: str) -> None:
    assert facts(wheel(release.replace(" ", "=="))) == table()[release]
