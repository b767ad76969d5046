"""Continuous batching by hand, and what must hold whatever the lengths."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pangu_rl.simulation.engine import Engine, EngineCost, Request
from pangu_rl.simulation.fleet import Fleet

SECOND = EngineCost(step_s=1.0)
"""Every decode step takes a second, prompts nothing."""


def request(answer: int, prompt: int = 1, group: int = 0) -> Request:
    return Request(group=group, prompt=prompt, answer=answer, prefill=prompt)


def drawn(engine: Engine) -> list[tuple[float, int]]:
    """(when, tokens) of every answer."""
    times = []
    while engine.next_time() < math.inf:
        times += [(engine.now, done.answer) for done in engine.finish()]
    return times


def test_two_slots_and_three_answers():
    """Answers of 3, 5 and 4 in two slots: 3 ends at 3, where 4 starts; 5 ends at 5 and 4 at 7."""
    engine = Engine(SECOND, slots=2, cache_tokens=100)
    engine.submit([request(3), request(5), request(4)], at=0.0)
    assert drawn(engine) == [(3.0, 3), (5.0, 5), (7.0, 4)]
    assert engine.busy == 7.0 and engine.steps == 7 and engine.sequence_steps == 12


def test_the_cache_bounds_what_runs():
    """Prompt 1 and answer 4 reserve 5 tokens of 9: the second waits for the first."""
    engine = Engine(SECOND, slots=8, cache_tokens=9)
    engine.submit([request(4), request(4)], at=0.0)
    assert drawn(engine) == [(4.0, 4), (8.0, 4)]


def test_a_step_costs_sequences_weights_and_cache():
    """Two sequences, 10 tokens cached: 1 + 2 x 0.5 + max(3, 2 x 2) + 10 x 0.1 = 7 s; the next has 12 cached, 7.2 s."""
    cost = EngineCost(step_s=1.0, sequence_s=0.5, weights_s=3.0, token_s=2.0, cached_s=0.1)
    assert cost.decode(running=2, cached=10, steps=1) == pytest.approx(7.0)
    assert cost.decode(running=2, cached=10, steps=2) == pytest.approx(14.2)
    assert cost.fixed(1) == pytest.approx(1.0 + 0.5 + 3.0)  # one token's arithmetic hides behind the weights


def test_a_prompt_holds_up_what_runs():
    """A prompt of 4 tokens takes 4 x 0.5 + 4 x 5 / 2 x 0.1 = 3 s, and the one that runs waits: 2 + 3 + 3 more steps."""
    engine = Engine(EngineCost(step_s=1.0, token_s=0.5, pair_s=0.1), slots=2, cache_tokens=100)
    engine.submit([Request(group=0, prompt=1, answer=5, prefill=0)], at=0.0)
    engine.submit([Request(group=1, prompt=4, answer=9, prefill=4)], at=2.0)
    # One sequence a step: 1 + 0.5. At 2.0 the second step is under way, it ends at 3.0; then 3 s of prompt; then three
    # steps of two sequences, 1 + 2 x 0.5 each.
    assert engine.now == pytest.approx(3.0 + 3.0)
    engine.finish()
    assert engine.now == pytest.approx(6.0 + 3 * 2.0)


def test_new_weights_pause_and_keep_tokens():
    """At 2.5 the third step ends, 3.0; 10 s of sync; 4 cached tokens anew, 4 x 0.5 + 10 x 0.1 = 3 s; 2 steps."""
    engine = Engine(EngineCost(step_s=0.5, token_s=0.5, pair_s=0.1), slots=1, cache_tokens=100)
    engine.submit([Request(group=0, prompt=1, answer=5, prefill=0)], at=0.0)
    engine.pause(at=2.5, seconds=10.0)
    assert engine.now == pytest.approx(3.0 + 10.0 + 3.0)
    assert engine.next_time() == pytest.approx(16.0 + 2.0)


def test_an_idle_engine_waits_for_the_clock():
    engine = Engine(SECOND, slots=1, cache_tokens=10)
    engine.submit([request(1)], at=0.0)
    engine.finish()
    engine.submit([request(2)], at=5.0)
    engine.finish()
    assert engine.drawn() == [(0.0, 1.0), (5.0, 7.0)] and engine.busy == 3.0


def test_the_fleet_gives_the_earliest_answer_of_any_engine():
    """Engine 0 has 4 and 1 in turn, engine 1 has 2: 2 at 2, 4 at 4, 1 at 5."""
    fleet = Fleet([Engine(SECOND, 1, 10), Engine(SECOND, 1, 10)])
    fleet.submit(0, [request(4, group=0), request(1, group=1)], 0.0)
    fleet.submit(1, [request(2, group=2)], 0.0)
    order = []
    while (time := fleet.next_time()) < math.inf:
        order += [(time, done.group) for done in fleet.finish()]
    assert order == [(2.0, 2), (4.0, 0), (5.0, 1)]
    assert fleet.with_room() in (0, 1)


answers = st.lists(st.integers(1, 60), min_size=1, max_size=25)
costs = st.builds(
    EngineCost,
    step_s=st.floats(0.01, 1.0),
    sequence_s=st.floats(0, 0.1),
    weights_s=st.floats(0, 0.5),
    token_s=st.floats(0, 0.1),
    cached_s=st.floats(0, 0.01),
    pair_s=st.floats(0, 0.001),
)


@given(answers, costs, st.integers(1, 6))
def test_every_answer_is_drawn_once_and_the_time_is_within_its_bounds(lengths, cost, slots):
    engine = Engine(cost, slots, cache_tokens=200)
    engine.submit([request(length) for length in lengths], at=0.0)
    times = drawn(engine)
    assert sorted(length for _, length in times) == sorted(lengths)
    assert engine.sequence_steps == sum(lengths)
    assert engine.steps >= max(max(lengths), math.ceil(sum(lengths) / slots))
    assert engine.now == pytest.approx(engine.busy)


@given(answers, costs, st.integers(1, 6), st.floats(0.1, 30))
def test_looking_in_between_changes_nothing(lengths, cost, slots, every):
    whole, looked = (Engine(cost, slots, cache_tokens=200) for _ in range(2))
    for engine in (whole, looked):
        engine.submit([request(length) for length in lengths], at=0.0)
    clock = every
    while looked.next_time() < math.inf:
        while clock < looked.next_time():
            looked.advance(clock)
            clock += every
        looked.finish()
    drawn(whole)
    assert looked.now == pytest.approx(whole.now)


@given(costs, st.integers(1, 20), st.integers(0, 500), st.floats(0.01, 50))
def test_steps_in_is_the_least_number_that_lasts(cost, running, cached, seconds):
    steps = cost.steps_in(seconds, running, cached)
    assert cost.decode(running, cached, steps) >= seconds * (1 - 1e-6) - 1e-9
    assert steps == 0 or cost.decode(running, cached, steps - 1) < seconds * (1 + 1e-6)
