"""Published weights: every tensor once, its bytes hashed where they lie, nothing left behind by a dead learner."""

from __future__ import annotations

import multiprocessing
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import xxhash

from pangu_rl.accelerators.collective import broadcast_buffer, build_group, free_port, serve_store
from pangu_rl.errors import BrokenBroadcast
from pangu_rl.learner.weights.publish import (
    BUCKET_BYTES,
    PREFIX,
    BroadcastPublisher,
    ShmPublisher,
    dealt,
    describe_tensors,
    read_tensor,
    tensor_bytes,
)
from pangu_rl.records import WeightManifest

SIZE = 192
"""Three tensors of up to 64 bytes."""


def weights(scale: float = 1.0) -> list[tuple[str, torch.Tensor]]:
    return [
        ("a.weight", scale * torch.arange(15.0, dtype=torch.bfloat16).view(3, 5)),
        ("b.bias", scale * torch.arange(7.0)),
        ("c.scalar", torch.tensor(scale)),
    ]


def mapped(manifest: WeightManifest) -> torch.Tensor:
    size = Path(manifest.location).stat().st_size
    return torch.from_file(manifest.location, shared=True, size=size, dtype=torch.uint8)


def test_what_is_published_can_be_read_back(tmp_path: Path) -> None:
    publisher = ShmPublisher(SIZE, tmp_path)
    manifest = publisher.publish(3, weights())
    assert (manifest.version, manifest.transport) == (3, "shm")
    assert [tensor.name for tensor in manifest.tensors] == ["a.weight", "b.bias", "c.scalar"]
    assert [tensor.offset for tensor in manifest.tensors] == [0, 64, 128]
    buffer = mapped(manifest)
    for tensor, (_, expected) in zip(manifest.tensors, weights()):
        found = read_tensor(tensor, buffer)
        assert torch.equal(found, expected)
        assert tensor.digest == xxhash.xxh3_128_hexdigest(found.contiguous().view(-1).view(torch.uint8).numpy())
    publisher.close()
    assert list(tmp_path.iterdir()) == []


def test_a_zeroed_tensor_has_another_digest(tmp_path: Path) -> None:
    publisher = ShmPublisher(SIZE, tmp_path)
    manifest = publisher.publish(1, weights())
    found = read_tensor(manifest.tensors[1], mapped(manifest))
    found.zero_()
    assert xxhash.xxh3_128_hexdigest(found.view(torch.uint8).numpy()) != manifest.tensors[1].digest
    planted = [(name, torch.zeros_like(t) if name == "b.bias" else t) for name, t in weights()]
    again = publisher.publish(2, planted)
    assert [a.digest == b.digest for a, b in zip(manifest.tensors, again.tensors)] == [True, False, True]
    publisher.close()


def test_a_version_survives_the_publication_of_the_next(tmp_path: Path) -> None:
    publisher = ShmPublisher(SIZE, tmp_path)
    first = publisher.publish(1, weights(1.0))
    second = publisher.publish(2, weights(2.0))
    assert torch.equal(read_tensor(first.tensors[1], mapped(first)), weights(1.0)[1][1])
    assert torch.equal(read_tensor(second.tensors[1], mapped(second)), weights(2.0)[1][1])
    third = publisher.publish(3, weights(3.0))
    assert third.location == first.location
    publisher.close()


def test_buffers_of_the_dead_are_removed_and_of_the_living_are_kept(tmp_path: Path) -> None:
    orphan = tmp_path / f"{PREFIX}of_a_killed_run"
    orphan.write_bytes(b"x")
    living = ShmPublisher(SIZE, tmp_path)
    manifest = living.publish(1, weights())
    assert not orphan.exists()
    ShmPublisher(SIZE, tmp_path)
    assert Path(manifest.location).exists()
    living.close()


def receive(location: str, rank: int, versions: list[WeightManifest], results: multiprocessing.Queue) -> None:
    """As an engine's worker: its rank as it starts; then bucket after bucket of every version, and digests by name."""
    results.put(rank)
    host, _, port = location.rpartition(":")
    group = build_group("gloo", host, int(port), rank, 3, timeout_s=60)
    for manifest in versions:
        found = {}
        for bucket in sorted({tensor.bucket for tensor in manifest.tensors}):
            tensors = [tensor for tensor in manifest.tensors if tensor.bucket == bucket]
            buffer = torch.zeros(64 * -(-(tensors[-1].offset + tensor_bytes(tensors[-1])) // 64), dtype=torch.uint8)
            broadcast_buffer(group, buffer)
            for tensor in tensors:
                value = read_tensor(tensor, buffer).reshape(-1).view(torch.uint8)
                found[tensor.name] = xxhash.xxh3_128_hexdigest(value.numpy())
        results.put((rank, found))


@pytest.mark.parametrize(("default_group", "bucket_bytes"), [(False, BUCKET_BYTES), (True, 64)])
def test_broadcast_reaches_every_receiver_beside_a_default_group(
    tmp_path: Path, default_group: bool, bucket_bytes: int
) -> None:
    begun = default_group and not torch.distributed.is_initialized()
    if begun:
        torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    publisher = BroadcastPublisher(
        backend="gloo", host="127.0.0.1", receivers=2, device="cpu", bucket_bytes=bucket_bytes
    )
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    first = publisher.publish(1, weights(1.0))
    second = replace(publisher.publish(2, weights(2.0)), location=first.location)
    processes = [
        context.Process(target=receive, args=(first.location, rank, [second, second], results)) for rank in (1, 2)
    ]
    for process in processes:
        process.start()
    try:
        # A process may take longer to start than receivers, which are there already, may take to come.
        assert {results.get(timeout=300) for _ in processes} == {1, 2}
        for _ in range(2):
            publisher.send(weights(2.0))
            expected = {tensor.name: tensor.digest for tensor in second.tensors}
            got = dict(results.get(timeout=60) for _ in range(2))
            assert got == {1: expected, 2: expected}
        for process in processes:
            process.join(30)
            assert process.exitcode == 0
    finally:
        for process in processes:
            process.kill()
        publisher.close()
        if begun:
            torch.distributed.destroy_process_group()
    assert [a.digest == b.digest for a, b in zip(first.tensors, second.tensors)] == [False, False, False]


def test_tensors_are_dealt_into_buckets_in_order() -> None:
    """Of 30, 28 and 4 bytes, each aligned to 64: two fit into 96, none shares a bucket of 64 or less."""

    def places(bucket_bytes: int) -> list[tuple[int, int]]:
        return [(tensor.bucket, tensor.offset) for tensor in describe_tensors(weights(), bucket_bytes)]

    assert places(BUCKET_BYTES) == [(0, 0), (0, 64), (0, 128)]
    assert places(96) == [(0, 0), (0, 64), (1, 0)]
    assert places(64) == places(1) == [(0, 0), (1, 0), (2, 0)]


def test_a_sender_keeps_one_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten tensors of 1,024 bytes in buckets of two: no more than 2,048 bytes of buffers live at a time."""
    publisher = BroadcastPublisher(backend="gloo", host="127.0.0.1", receivers=1, device="cpu", bucket_bytes=2048)
    named = [(f"t{i}", torch.full((256,), float(i))) for i in range(10)]
    publisher.publish(1, named)
    alive: list[weakref.ref] = []
    sizes: list[int] = []

    def sent(_group: object, buffer: torch.Tensor) -> None:
        alive.append(weakref.ref(buffer))
        sizes.append(sum(ref().nbytes for ref in alive if ref() is not None))

    monkeypatch.setattr("pangu_rl.learner.weights.publish.broadcast_buffer", sent)
    monkeypatch.setattr("pangu_rl.learner.weights.publish.build_group", lambda *args: object())
    publisher.send(named)
    assert sizes == [2048] * 5


def test_receivers_that_do_not_come_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*args: object) -> None:
        raise RuntimeError("timed out\nwith a stack")

    monkeypatch.setattr("pangu_rl.learner.weights.publish.build_group", nobody)
    publisher = BroadcastPublisher(backend="gloo", host="127.0.0.1", receivers=3, device="cpu")
    publisher.publish(1, weights())
    with pytest.raises(BrokenBroadcast, match=r"did not reach the 3 rollout actors at 127.0.0.1:\d+: timed out$"):
        publisher.send(weights())


def test_receivers_that_do_not_join_are_named() -> None:
    """The sender of three lacks both others; rank 2, whose sender is there, lacks one."""
    with pytest.raises(TimeoutError, match=r"^rank 1, rank 2 did not come to the group within 0\.5 s$"):
        build_group("gloo", "127.0.0.1", free_port("127.0.0.1"), 0, 3, join_s=0.5)
    store = serve_store("127.0.0.1")
    torch.distributed.PrefixStore("pangu_rl", store).set("rank 0", "here")
    with pytest.raises(TimeoutError, match=r"^rank 1 did not come to the group within 0\.5 s$"):
        build_group("gloo", "127.0.0.1", store.port, 2, 3, join_s=0.5)


def test_a_member_that_hangs_breaks_the_broadcast_after_its_time() -> None:
    """It has joined, and never receives: the sender waits for a second, which no bucket may take."""
    publisher = BroadcastPublisher(backend="gloo", host="127.0.0.1", receivers=1, device="cpu", timeout_s=1.0)
    location = publisher.publish(1, weights()).location
    with ThreadPoolExecutor(1) as threads:
        joined = threads.submit(build_group, "gloo", "127.0.0.1", int(location.rpartition(":")[2]), 1, 2)
        began = time.monotonic()
        with pytest.raises(BrokenBroadcast, match="did not reach the 1 rollout actors"):
            publisher.send(weights())
        assert joined.result() is not None
    assert 1.0 <= time.monotonic() - began < 30.0


def test_the_default_bucket_leaves_room_and_a_larger_tensor_has_its_own() -> None:
    """An embedding of 150,000 x 8,192 in bf16 is 2.3 GiB: one bucket, between its neighbours'. No bytes are made."""
    named = [("small", (8,)), ("embedding", (150_000, 8192)), ("next", (8,))]
    tensors = [(name, torch.empty(shape, dtype=torch.bfloat16, device="meta")) for name, shape in named]
    assert [bucket for _, bucket, _ in dealt(tensors, BUCKET_BYTES)] == [0, 1, 2]
    assert 2 * BUCKET_BYTES <= 2**29
