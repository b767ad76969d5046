"""The other mode: limits kept, nobody waits for ever, streams apart, and a resume that is one."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from pangu_rl.errors import ConfigError, DataError
from pretrain.packing.online import OnlinePacker, PacksApart, StreamSample, Unit


def stream(count: int, seed: int = 0) -> list[StreamSample]:
    random = np.random.default_rng(seed)
    tokens = np.exp(random.normal(5, 1, count)).clip(1, 1200).astype(int)
    visual = (tokens * random.random(count) * (random.random(count) < 0.6)).astype(int)
    return [StreamSample(f"{seed}-{i}", int(t), int(v)) for i, (t, v) in enumerate(zip(tokens, visual))]


def packed(packer: OnlinePacker, samples: list[StreamSample]) -> list[list[StreamSample]]:
    return [pack for sample in samples if (pack := packer.add(sample)) is not None]


@pytest.mark.parametrize("pool", [1, 20, 200])
def test_limits_are_kept_and_nothing_is_lost(pool):
    packer = OnlinePacker(context=1000, visual_tokens=400, pool=pool)
    samples = stream(1000)
    packs = packed(packer, samples) + packer.flush()
    out = [sample.id for pack in packs for sample in pack]
    fit = [s.id for s in samples if s.tokens <= 1000 and s.visual_tokens <= 400]
    assert sorted(out) == sorted(fit)
    assert packer.skipped == [s.id for s in samples if s.id not in set(fit)] and packer.skipped
    assert max(sum(s.tokens for s in pack) for pack in packs) <= 1000
    assert max(sum(s.visual_tokens for s in pack) for pack in packs) <= 400


def test_a_larger_pool_fills_better():
    def fill(pool: int) -> float:
        return float(
            np.mean([sum(s.tokens for s in p) for p in packed(OnlinePacker(2000, pool=pool), stream(3000))]) / 2000
        )

    assert fill(2) < fill(20) < fill(200)
    assert fill(200) > 0.99


def test_the_oldest_opens_the_next_pack():
    packer = OnlinePacker(context=100, pool=2)
    assert packer.add(StreamSample("small", 10)) is None
    assert packer.add(StreamSample("a", 95)) is None
    assert [s.id for s in packer.add(StreamSample("b", 90))] == ["small", "b"]
    assert [[s.id for s in pack] for pack in packer.flush()] == [["a"]]


def test_resume_is_exact_at_every_point():
    samples = stream(120)
    whole = OnlinePacker(1000, 400, pool=20)
    expected = packed(whole, samples) + whole.flush()
    for cut in range(0, 120, 17):
        first = OnlinePacker(1000, 400, pool=20)
        packs = packed(first, samples[:cut])
        second = OnlinePacker(1000, 400, pool=20)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert packs + packed(second, samples[cut:]) + second.flush() == expected
        assert second.skipped == whole.skipped


SHARES = {"multimodal": 7 / 10.5, "text": 2 / 10.5, "web": 1.5 / 10.5}


def apart(unit: Unit = "packs") -> PacksApart:
    return PacksApart({name: OnlinePacker(1000, pool=10) for name in SHARES}, unit)


def batches(
    mixer: PacksApart, sources: dict[str, list[StreamSample]], count: int, shares: dict[str, float] = SHARES
) -> list[list[tuple[str, list]]]:
    """Of eight packs each."""
    taken: list[list[tuple[str, list]]] = []
    for _ in range(count):
        taken.append([])
        for _ in range(8):
            name = mixer.next_stream(shares)
            while not mixer.ready(name):
                mixer.add(name, sources[name].pop(0))
            taken[-1].append((name, mixer.take(name, shares)))
    return taken


def sources() -> dict[str, list[StreamSample]]:
    return {name: stream(4000, seed) for seed, name in enumerate(("multimodal", "text", "web"))}


def test_streams_are_packed_apart_and_every_batch_has_the_shares():
    found = batches(apart(), sources(), 20)
    for number, batch in enumerate(found, start=1):
        assert len(batch) == 8
        counts = Counter(name for earlier in found[:number] for name, _ in earlier)
        for name, share in (("multimodal", 7), ("text", 2), ("web", 1.5)):
            assert abs(counts[name] - share / 10.5 * 8 * number) < 1
        for name, pack in batch:
            seed = ("multimodal", "text", "web").index(name)
            assert all(sample.id.startswith(f"{seed}-") for sample in pack)


@pytest.mark.parametrize("unit", ["tokens", "samples"])
def test_shares_are_of_tokens_or_of_samples(unit: Unit):
    """Streams of samples of 100 and of 20 tokens: equal shares are ten of one to fifty of the other, or as many."""
    large, small = ([StreamSample(n, size) for n in range(9000)] for size in (100, 20))
    mixer = PacksApart({name: OnlinePacker(1000, pool=60) for name in ("large", "small")}, unit)
    rows = {"large": large, "small": small}
    packs = Counter(name for batch in batches(mixer, rows, 12, {"large": 0.5, "small": 0.5}) for name, _ in batch)
    if unit == "tokens":
        assert packs == {"large": 48, "small": 48}
    else:
        assert packs == {"large": 80, "small": 16}


def test_shares_that_change_are_kept_from_then_on():
    """Twelve batches of 8 packs at 3 : 1 : 0, then at 0 : 1 : 3; the third stream is owed nothing from before."""
    mixer, rows = apart(), sources()
    first = batches(mixer, rows, 12, {"multimodal": 0.75, "text": 0.25, "web": 0.0})
    then = batches(mixer, rows, 12, {"multimodal": 0.0, "text": 0.25, "web": 0.75})
    counts = [Counter(name for batch in found for name, _ in batch) for found in (first, then)]
    assert counts == [{"multimodal": 72, "text": 24}, {"text": 24, "web": 72}]


def test_the_mix_resumes_exactly():
    expected = batches(apart(), sources(), 12)
    rest, first = sources(), apart()
    head = batches(first, rest, 5)
    second = apart()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert head + batches(second, rest, 7) == expected


def test_what_is_refused():
    with pytest.raises(DataError, match="sample x: 5 tokens, 6 of them visual"):
        OnlinePacker(100).add(StreamSample("x", 5, 6))
    with pytest.raises(ConfigError, match="pool 0: must be at least 1"):
        OnlinePacker(100, pool=0)
    with pytest.raises(ConfigError, match="no stream to pack"):
        PacksApart({})
