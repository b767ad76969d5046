"""Two ranks under ZeRO 3 load a model part by part and hand it out whole; what a rank holds meanwhile is counted."""

from __future__ import annotations

import threading
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from pangu_rl.config.sections.learner import LearnerConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.errors import CheckpointError, DataError
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.records import WeightTensor
from tests.gloo_ranks import on_ranks
from tests.unit.learner.builders import llama, save_llama
from tests.unit.learner.vl_builders import save_pangu_vl

MIB = 2**20


def spec(path: Path, rank: int, ranks: int, dtype: str = "float32", stage: int = 3) -> LearnerSpec:
    return LearnerSpec(
        model=ModelConfig(path=str(path), dtype=dtype),
        learner=LearnerConfig(ranks=ranks, zero_stage=stage),
        objective="sft",
        total_steps=1,
        rank=rank,
        world_size=ranks,
    )


def received(location: str, tensors: tuple[WeightTensor, ...], found: dict[str, Tensor]) -> None:
    from pangu_rl.accelerators.collective import broadcast_buffer, build_group
    from pangu_rl.learner.weights.publish import read_tensor, tensor_bytes

    host, _, port = location.rpartition(":")
    group = build_group("gloo", host, int(port), 1, 2)
    for _, bucket in groupby(tensors, key=lambda tensor: tensor.bucket):
        entries = list(bucket)
        buffer = torch.empty(64 * -(-(entries[-1].offset + tensor_bytes(entries[-1])) // 64), dtype=torch.uint8)
        broadcast_buffer(group, buffer)
        found.update((entry.name, read_tensor(entry, buffer).clone()) for entry in entries)


def failed_export(learner: Any, directory: Path) -> str:
    try:
        learner.outlet.export(directory).result()
    except CheckpointError as error:
        return type(error).__name__
    return "none"


def handed_out(rank: int, ranks: int, folders: list[Path], home: Path) -> list[dict[str, Any]]:
    """Of each model: whole weights as each way hands them out, and what was held whole while it was loaded."""
    from pangu_rl.learner import engine
    from pangu_rl.learner.learner import Learner
    from pangu_rl.learner.weights.publish import BroadcastPublisher, read_tensor

    whole: list[int] = []
    partition = engine._partition

    def counted(parameter: nn.Parameter, **options: Any) -> None:
        placed.append(parameter)
        partition(parameter, **options)
        whole.append(sum(other.numel() for other in placed if other.dim() > 1 or hasattr(other, "ds_id")))

    engine._partition = counted
    results = []
    for folder in folders:
        placed: list[nn.Parameter] = []
        learner = Learner(spec(folder, rank, ranks))
        found: dict[str, Any] = {"stream": {name: tensor.clone() for name, tensor in learner.outlet.stream()}}
        manifest = learner.outlet.publish(1)
        if rank == 0:
            buffer = torch.from_file(manifest.location, size=Path(manifest.location).stat().st_size, dtype=torch.uint8)
            found["shm"] = {tensor.name: read_tensor(tensor, buffer).clone() for tensor in manifest.tensors}
        learner.outlet.open_publisher("broadcast", receivers=1)
        if rank == 0:
            publisher = {"backend": "gloo", "host": "127.0.0.1", "receivers": 1, "device": "cpu"}
            learner.outlet._publisher = BroadcastPublisher(**publisher, bucket_bytes=4096)
        manifest = learner.outlet.publish(2)
        found["sent"] = {}
        if rank == 0:
            found["buckets"] = manifest.tensors[-1].bucket
            arguments = (manifest.location, manifest.tensors, found["sent"])
            receiver = threading.Thread(target=received, args=arguments)
            receiver.start()
        learner.outlet.send()
        if rank == 0:
            receiver.join()
        learner.outlet.export(home / folder.name, shard_bytes=2**14).result()
        found["failure"] = failed_export(learner, folder / "config.json" / "folder")
        learner.outlet.close()
        results.append(found | {"whole": max(whole), "parameters": len(placed)})
    return results


def test_a_model_loaded_in_parts_is_handed_out_whole(tmp_path: Path) -> None:
    """Text and pictures, tied and not: the source's tensors to the bit by every way out, no matrix whole in between."""
    folders = [
        save_llama(tmp_path / "untied", tied=False),
        save_llama(tmp_path / "tied"),
        save_pangu_vl(tmp_path / "vl"),
    ]
    ranks = on_ranks(2, handed_out, tmp_path, folders, tmp_path / "out")
    from pangu_rl.checkpoint.model_tensors import ModelTensors

    for folder, first, second in zip(folders, *ranks, strict=True):
        source = load_file(folder / "model.safetensors")
        stored = ModelTensors(tmp_path / "out" / folder.name)
        exported = {name: stored.read(name) for name in stored.entries}
        assert len(stored.shards) > 1
        for way in (first["stream"], second["stream"], first["shm"], first["sent"], exported):
            assert way.keys() == source.keys()
            assert all(torch.equal(tensor, source[name]) for name, tensor in way.items())
        assert second["sent"] == {}
        assert first["buckets"] > 3
        assert first["parameters"] >= len(source)
        # Rank 0 cannot write there; rank 1 gathers with it to the end and goes on.
        assert (first["failure"], second["failure"]) == ("CheckpointError", "none")
        assert first["whole"] == second["whole"] == 0


def test_tied_names_with_tensors_of_their_own_are_refused(tmp_path: Path) -> None:
    """They are compared in the files: by the time transformers compares them, both are parts."""
    from pangu_rl.learner.weights.placement import check_ties

    lm = llama(tied=True)
    lm.lm_head.weight.ds_id = 0
    stored = {name: tensor.clone() for name, tensor in lm.state_dict().items()}
    save_file(stored, tmp_path / "model.safetensors")
    check_ties(lm, tmp_path)
    stored["lm_head.weight"][0] += 1
    save_file(stored, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=r"ties lm_head.weight to model.embed_tokens.weight, and .* set tie_word"):
        check_ties(lm, tmp_path)


def large() -> PreTrainedModel:
    """160 MiB in bf16; no tensor of more than 2 MiB."""
    sizes = {"vocab_size": 2048, "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 24}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=8, num_key_value_heads=8))


def private_bytes() -> int:
    """Of this process's memory what it does not share with the kernel's cache of files."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    sizes = dict(line.split(":", 1) for line in lines)
    return 1024 * sum(int(sizes[name].split()[0]) for name in ("RssAnon", "RssShmem"))


def watch(peaks: list[int], done: threading.Event) -> None:
    while not done.wait(0.001):
        peaks[0] = max(peaks[0], private_bytes())


def peak_of_loading(rank: int, ranks: int, small: Path, folder: Path, stage: int) -> int:
    """Bytes at the most, beyond those before, while `folder` is loaded; `small` before it brings the imports."""
    from pangu_rl.learner.engine import join_ranks, placement
    from pangu_rl.learner.model import load_causal_lm

    own = spec(folder, rank, ranks, "bfloat16", stage)
    device = join_ranks(own, "gloo")
    load_causal_lm(own.model.model_copy(update={"path": str(small)}), placement(own, device))
    peaks, done, before = [0], threading.Event(), private_bytes()
    watcher = threading.Thread(target=watch, args=(peaks, done))
    watcher.start()
    load_causal_lm(own.model, placement(own, device))
    done.set()
    watcher.join()
    return peaks[0] - before


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "parts"), [(3, 2), (1, 1)])
def test_a_rank_needs_what_it_keeps_and_a_tensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: int, parts: int
) -> None:
    """151 MiB in bf16, read from float32: all or half of them, a tensor read and cast; 8 MiB for the allocator."""
    # glibc gives blocks back at once from 32 MiB on, as those of a large model are; none of this one is.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(2**18))
    lm, small = large(), save_llama(tmp_path / "small")
    lm.save_pretrained(tmp_path / "large")
    size = 2 * sum(parameter.numel() for parameter in lm.parameters())
    largest = 2 * max(parameter.numel() for parameter in lm.parameters())
    for peak in on_ranks(2, peak_of_loading, tmp_path, small, tmp_path / "large", stage):
        assert 0.9 * size / parts < peak < size / parts + 3 * largest + 8 * MIB
