"""What was trained on is counted by source, adds up over ranks, and is told as samples and shares."""

from __future__ import annotations

import json

from pangu_rl.data.mixing.seen import NAMED, Seen


def seen(**sources: tuple[int, int]) -> Seen:
    found = Seen()
    for source, (samples, tokens) in sources.items():
        for _ in range(samples):
            found.count(source, tokens)
    return found


def test_shares_are_of_tokens_and_of_samples() -> None:
    """3 samples of 10 tokens and 1 of 10 over two ranks: 3 : 1 of both; then 4 samples of 15 more: 40 of 100 tokens."""
    both = seen(a=(2, 10)) + seen(a=(1, 10), b=(1, 10))
    assert both.metrics() == {
        "data/samples/a": 3.0,
        "data/share/a": 0.75,
        "data/sample_share/a": 0.75,
        "data/samples/b": 1.0,
        "data/share/b": 0.25,
        "data/sample_share/b": 0.25,
    }
    assert (both + seen(b=(4, 15))).metrics()["data/share/a"] == 0.3
    assert Seen.from_state(json.loads(json.dumps(both.state_dict()))) == both


def test_one_stream_has_no_shares_and_many_sources_are_told_together() -> None:
    assert seen(**{"": (2, 5)}).metrics() == {"data/samples/all": 2.0}
    many = seen(**{f"s{number}": (40 - number, 1) for number in range(NAMED + 3)})
    found = many.metrics()
    assert "data/samples/s0" in found and f"data/samples/s{NAMED}" not in found
    assert found["data/samples/others"] == 8 + 7 + 6
    assert sum(value for name, value in found.items() if name.startswith("data/share/")) == 1
