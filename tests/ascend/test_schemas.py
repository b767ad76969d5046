"""Part a: every call of a torch-npu operator binds to the schemas of the pinned and of the newest tried release."""

from __future__ import annotations

import ast

import pytest

from tests.ascend.npu_calls import complaint, npu_calls
from tests.ascend.npu_facts import LIVE, PIN, called, our_calls, table
from tests.contracts.source_tree import place


@pytest.mark.parametrize("release", [PIN, LIVE])
def test_our_calls_bind(release: str) -> None:
    known = table()[release]["schemas"]
    found = [f"{place(path, call.node)}: {wrong}" for path, call in our_calls() if (wrong := complaint(call, known))]
    assert not found, "\n".join(found)


def test_the_table_has_what_we_call_and_no_more() -> None:
    for release in (PIN, LIVE):
        assert table()[release]["schemas"].keys() == called()


def test_the_schemas_of_both_releases_are_the_same() -> None:
    assert table()[PIN]["schemas"] == table()[LIVE]["schemas"]


PLANTED = {
    "torch_npu.npu_fusion_attention(q, k, v, 8, 'TND', attn_mask=m)": "npu_fusion_attention has no attn_mask",
    "torch.ops.npu.npu_rms_norms(x, g)": "npu_rms_norms is no operator of torch-npu's",
    "torch.ops.npu.npu_rms_norm(x)": "npu_rms_norm is not given gamma",
    "torch.ops.npu.npu_gelu(x, 'tanh')": "npu_gelu takes 1 arguments without a name, and is given 2",
    "torch.ops.npu.npu_rotary_mul(x, cos, sin, 'half')": None,
}


@pytest.mark.parametrize(("source", "message"), PLANTED.items())
def test_a_planted_mistake_is_caught(source: str, message: str | None) -> None:
    (call,) = npu_calls(ast.parse(source))
    assert complaint(call, table()[PIN]["schemas"]) == message
