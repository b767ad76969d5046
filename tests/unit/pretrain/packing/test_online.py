"""The other mode: limits kept, nobody waits for ever, streams apart, and a resume that is one."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from pangu_rl.errors import ConfigError, DataError
from pretrain.packing.online import OnlinePacker, PacksApart, StreamSample


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


def apart() -> PacksApart:
    packers = {name: OnlinePacker(1000, pool=10) for name in ("multimodal", "text", "web")}
    return PacksApart(packers, {"multimodal": 7, "text": 2, "web": 1.5}, packs=8)


def batches(mixer: PacksApart, sources: dict[str, list[StreamSample]], count: int) -> list[list[tuple[str, list]]]:
    taken = []
    while len(taken) < count:
        while names := mixer.lacking():
            mixer.add(names[0], sources[names[0]].pop(0))
        taken.append(mixer.take())
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
    with pytest.raises(ConfigError, match="each must be above 0"):
        PacksApart({"a": OnlinePacker(100)}, {"a": 0}, packs=4)
