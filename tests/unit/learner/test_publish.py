"""Published weights: every tensor once, its bytes hashed where they lie, nothing left behind by a dead learner."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch
import xxhash

from pangu_rl.accelerators.collective import broadcast_buffer, build_group
from pangu_rl.learner.publish import PREFIX, BroadcastPublisher, ShmPublisher, read_tensor
from pangu_rl.records import WeightManifest


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
    publisher = ShmPublisher(tmp_path)
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
    publisher = ShmPublisher(tmp_path)
    manifest = publisher.publish(1, weights())
    found = read_tensor(manifest.tensors[1], mapped(manifest))
    found.zero_()
    assert xxhash.xxh3_128_hexdigest(found.view(torch.uint8).numpy()) != manifest.tensors[1].digest
    planted = [(name, torch.zeros_like(t) if name == "b.bias" else t) for name, t in weights()]
    again = publisher.publish(2, planted)
    assert [a.digest == b.digest for a, b in zip(manifest.tensors, again.tensors)] == [True, False, True]
    publisher.close()


def test_a_version_survives_the_publication_of_the_next(tmp_path: Path) -> None:
    publisher = ShmPublisher(tmp_path)
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
    living = ShmPublisher(tmp_path)
    manifest = living.publish(1, weights())
    assert not orphan.exists()
    ShmPublisher(tmp_path)
    assert Path(manifest.location).exists()
    living.close()


def receive(location: str, rank: int, size: int, versions: int, results: multiprocessing.Queue) -> None:
    host, _, port = location.rpartition(":")
    group = build_group("gloo", host, int(port), rank, 3, timeout_s=60)
    for _ in range(versions):
        buffer = torch.zeros(size, dtype=torch.uint8)
        broadcast_buffer(group, buffer)
        results.put((rank, xxhash.xxh3_128_hexdigest(buffer.numpy())))


@pytest.mark.parametrize("default_group", [False, True])
def test_broadcast_reaches_every_receiver_beside_a_default_group(tmp_path: Path, default_group: bool) -> None:
    if default_group and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    publisher = BroadcastPublisher(backend="gloo", host="127.0.0.1", receivers=2, device="cpu")
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    first = publisher.publish(1, weights(1.0))
    processes = [context.Process(target=receive, args=(first.location, rank, 192, 2, results)) for rank in (1, 2)]
    for process in processes:
        process.start()
    first_bytes = xxhash.xxh3_128_hexdigest(publisher._buffer.numpy())
    got = [results.get(timeout=60) for _ in range(2)]
    assert sorted(got) == [(1, first_bytes), (2, first_bytes)]
    second = publisher.publish(2, weights(2.0))
    second_bytes = xxhash.xxh3_128_hexdigest(publisher._buffer.numpy())
    assert sorted(results.get(timeout=60) for _ in range(2)) == [(1, second_bytes), (2, second_bytes)]
    assert second.location == first.location
    assert second_bytes != first_bytes
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    publisher.close()
