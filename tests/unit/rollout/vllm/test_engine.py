"""What vLLM raises, and what it becomes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pangu_rl.errors import BrokenBroadcast, RunError

pytest.importorskip("vllm")

pytestmark = pytest.mark.slow  # the import alone takes longer than a quick test may


def engine(error: Exception):
    """A `VllmEngine` whose vLLM raises `error` whatever it is asked."""
    from rollout.vllm.engine import VllmEngine

    def raising(*args, **kwargs):
        raise error

    found = VllmEngine.__new__(VllmEngine)
    found._llm, found._adapter = SimpleNamespace(collective_rpc=raising, add_request=raising), None
    return found


@pytest.mark.parametrize("kind", [RuntimeError, Exception])
def test_a_broken_broadcast_is_known_by_its_text_whatever_process_it_comes_from(kind: type[Exception]) -> None:
    """In vLLM 0.32 a core in another process answers with `Exception("Call to collective_rpc method failed: ...")`."""
    text = "Call to collective_rpc method failed: the broadcast of weights broke at rank 1 of host:1: reset by peer"
    with pytest.raises(BrokenBroadcast, match="broke at rank 1 of host:1"):
        engine(kind(text))._called("pangu_load_broadcast", ())
    with pytest.raises(kind, match=r"^out of memory$"):
        engine(kind("out of memory"))._called("pangu_load_broadcast", ())


def test_a_request_that_is_not_admitted_ends_the_run_by_its_name() -> None:
    from rollout.vllm.refusal import REFUSED

    for kind in REFUSED:
        with pytest.raises(RunError, match="0:p1/0: vLLM does not admit it: longer than the model"):
            engine(kind("longer than the model"))._add("0:p1/0", {}, None)
