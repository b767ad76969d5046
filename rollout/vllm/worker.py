"""What we add to every vLLM worker: in-place weight updates that prove what they loaded, and log-probs as asked for.

vLLM mixes this class into its worker (`worker_extension_cls`) and the engine calls the methods by name through
`collective_rpc`, with plain arguments. The learner's tensors come in manifest order from a buffer file on this node or
from a broadcast, each is hashed as it is handed to the model's `load_weights`, and the digests go back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from math import prod
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import xxhash
from safetensors.torch import save_file
from torch.distributed import ProcessGroup
from vllm.config import set_current_vllm_config
from vllm.lora.request import LoRARequest
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding

from pangu_rl.accelerators.collective import broadcast_buffer, build_group
from pangu_rl.accelerators.native import load_native
from pangu_rl.accelerators.storage import contents, storages_of
from pangu_rl.checkpoint.adapter_folder import CONFIG, WEIGHTS
from pangu_rl.errors import BrokenBroadcast, first_line
from rollout.vllm.cpu_sampler import CpuSampler

BROKEN = "the broadcast of weights broke"
"""Begins what a worker says of it; of an error in another process vLLM keeps no more than the text."""
ALIGNMENT = 64
"""A sender's buffer ends on a multiple of so many bytes, and both sides of a broadcast must agree."""

ADAPTER = "synced"
"""vLLM's name of the only adapter."""
SHARED_MEMORY = Path("/dev/shm")

Named = tuple[str, torch.Tensor]
Numbered = tuple[int, dict[str, Any]]
"""vLLM's number of an adapter, and its peft configuration."""


class WeightSyncExtension:
    """Methods carry a prefix: vLLM refuses an extension that shares a name with its worker."""

    def pangu_keep_logprobs_mode(self) -> None:
        """Let the sampler report the log-probs that the engine was asked for.

        vllm-ascend 0.23 builds its sampler without the engine's `logprobs_mode`, so that it would report those before
        temperature, top-k and top-p, and not those that its tokens were drawn by.
        """
        sampler, mode = self.model_runner.sampler, self.vllm_config.model_config.logprobs_mode
        if sampler.logprobs_mode != mode:
            self.model_runner.sampler = type(sampler)(logprobs_mode=mode)

    def pangu_use_cpu_sampler(self) -> None:
        """Draw by the kernel of a CPU, where it is compiled."""
        if load_native():
            self.model_runner.sampler = CpuSampler(self.model_runner.sampler)

    def pangu_load_shm(self, tensors: list[dict[str, Any]], adapter: Numbered | None, path: str) -> dict[str, str]:
        """Load from the buffer file `path`; `tensors` are the manifest's entries as dicts, of the model or of an
        `adapter` to be added to it. Digests by name."""
        # A private mapping: nothing is copied before the model's own loader does.
        buffer = torch.from_file(path, shared=False, size=_extent(tensors), dtype=torch.uint8)
        return self._pangu_load(_views(tensors, buffer), adapter)

    def pangu_load_broadcast(
        self,
        tensors: list[dict[str, Any]],
        adapter: Numbered | None,
        store: str,
        backend: str,
        first_rank: int,
        world_size: int,
        timeout_s: float,
    ) -> dict[str, str]:
        """Load the buckets that rank 0 of a group sends; the group meets at `store` (`host:port`) and stays until
        another store is named. None may take longer than `timeout_s`.

        Raises:
            BrokenBroadcast: a member was lost. Weights are now of two versions; another load mends them.
        """
        rank = first_rank + self.rank
        try:
            if getattr(self, "_pangu_store", None) != store:
                self._pangu_group, self._pangu_store = None, None
                host, _, port = store.rpartition(":")
                self._pangu_group = build_group(backend, host, int(port), rank, world_size, timeout_s)
                self._pangu_store = store
        # The backends' errors have no common class, here and below.
        except Exception as error:
            raise BrokenBroadcast(
                f"{BROKEN}: rank {rank} did not enter the group at {store}: {first_line(error)}"
            ) from error
        received = _Received(tensors, self._pangu_group, self.device)
        try:
            digests = self._pangu_load(received, adapter)
        except Exception:
            # vLLM may refuse an adapter of which a part did not come: the model is as it was, and the next adapter is
            # loaded whole. What went wrong within a model's layers would stay there.
            if received.error is None or adapter is None:
                raise
        finally:
            # The sender waits for every receiver, also for one whose load failed.
            received.drain()
        if received.error is not None:
            self._pangu_group, self._pangu_store = None, None
            raise BrokenBroadcast(
                f"{BROKEN} at rank {rank} of {store}: {first_line(received.error)}"
            ) from received.error
        return digests

    def pangu_sleep(self, level: int) -> None:
        """Sleep where vLLM has no allocator for it: the worker gives up the memory of its KV cache, and at level 2 of
        the model's parameters; buffers stay. What a processor's kernels keep packed beside a parameter stays too."""
        tensors = {"kv_cache": self.model_runner.kv_caches}
        if level > 1:
            tensors["weights"] = list(self.model_runner.get_model().parameters())
        self._pangu_asleep = {
            tag: [(storage, storage.nbytes()) for storage in storages_of(held, self.device)]
            for tag, held in tensors.items()
        }
        for storage, _ in chain.from_iterable(self._pangu_asleep.values()):
            storage.resize_(0)

    def pangu_wake(self, tag: str) -> None:
        """Have the memory of `kv_cache` or `weights` again, as zeros."""
        for storage, size in self._pangu_asleep.pop(tag, ()):
            storage.resize_(size)
            contents(storage).zero_()

    def _pangu_load(self, tensors: Iterable[Named], adapter: Numbered | None) -> dict[str, str]:
        digests: dict[str, str] = {}
        if adapter is not None:
            self._pangu_add(_hashed(tensors, digests), *adapter)
            return digests
        # The runner's own: not every worker has a `reload_weights` (vllm-ascend's has none).
        with set_current_vllm_config(self.vllm_config):
            self.model_runner.reload_weights(weights_iterator=_hashed(tensors, digests), is_checkpoint_format=True)
        model = self.model_runner.get_model()
        _repack_tied_heads(model)
        if self.device.type == "cpu":
            _repack_experts(model)
        return digests

    def _pangu_add(self, tensors: Iterable[Named], number: int, config: dict[str, Any]) -> None:
        """Let the adapter take the place of the one before. vLLM reads adapters from a folder; this one lies in memory
        and is gone afterwards."""
        copies = {name: tensor.to("cpu", copy=True) for name, tensor in tensors}
        with TemporaryDirectory(prefix="pangu_rl_adapter_", dir=SHARED_MEMORY) as folder:
            save_file(copies, Path(folder, WEIGHTS))
            Path(folder, CONFIG).write_text(json.dumps(config), encoding="utf-8")
            for held in self.list_loras():
                self.remove_lora(held)
            self.add_lora(LoRARequest(ADAPTER, number, folder))


def tensor_digest(tensor: torch.Tensor) -> str:
    """xxh3-128 of the tensor's bytes in row-major order, hex."""
    flat = tensor.detach().contiguous().cpu().view(-1).view(torch.uint8)
    return xxhash.xxh3_128_hexdigest(flat.numpy())


def _repack_tied_heads(model: torch.nn.Module) -> None:
    """Let output heads that share the embedding's weight follow it.

    On cpu vLLM packs a head into a layout of its own when it loads. Its reload repacks the layers that tensors came
    for; for a tied head none comes, so it would go on with the old weights.
    """
    heads = [module for module in model.modules() if isinstance(module, ParallelLMHead)]
    embeddings = {id(module.weight) for module in model.modules() if type(module) is VocabParallelEmbedding}
    for head in heads:
        if id(head.weight) in embeddings:
            head.quant_method.process_weights_after_loading(head)


def _repack_experts(model: torch.nn.Module) -> None:
    """Let experts follow their new weights.

    On cpu vLLM packs them into a layout of its own when it first loads. Its reload leaves them as they came.
    """
    for layer in model.modules():
        kernel = getattr(getattr(layer, "quant_method", None), "moe_kernel", None)
        if kernel is not None:
            kernel.fused_experts.process_weights_after_loading(layer)


def _hashed(tensors: Iterable[Named], digests: dict[str, str]) -> Iterator[Named]:
    for name, tensor in tensors:
        digests[name] = tensor_digest(tensor)
        yield name, tensor


class _Received:
    """The tensors of bucket after bucket, at most two buckets at a time: the reload keeps tensors of a layer until it
    has them all.

    A broadcast that breaks ends the stream and is kept as `error`: vLLM's reload leaves its layers in order when it
    runs short of tensors, and half taken apart, for good, when it is interrupted.
    """

    def __init__(self, tensors: list[dict[str, Any]], group: ProcessGroup, device: torch.device) -> None:
        self._buckets = [list(bucket) for _, bucket in groupby(tensors, key=itemgetter("bucket"))]
        self._group, self._device = group, device
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[Named]:
        while self._buckets and self.error is None:
            bucket = self._buckets.pop(0)
            buffer = self._next(bucket)
            if self.error is None:
                yield from _views(bucket, buffer)

    def drain(self) -> None:
        for _ in self:
            pass

    def _next(self, bucket: list[dict[str, Any]]) -> torch.Tensor:
        buffer = torch.empty(-(-_extent(bucket) // ALIGNMENT) * ALIGNMENT, dtype=torch.uint8, device=self._device)
        try:
            broadcast_buffer(self._group, buffer)
        except Exception as error:
            self.error = error
        return buffer


def _views(tensors: list[dict[str, Any]], buffer: torch.Tensor) -> Iterator[Named]:
    for entry in tensors:
        raw = buffer[entry["offset"] : entry["offset"] + _nbytes(entry)]
        yield entry["name"], raw.view(getattr(torch, entry["dtype"])).view(entry["shape"])


def _extent(tensors: list[dict[str, Any]]) -> int:
    return max(entry["offset"] + _nbytes(entry) for entry in tensors)


def _nbytes(entry: dict[str, Any]) -> int:
    return prod(entry["shape"]) * getattr(torch, entry["dtype"]).itemsize
