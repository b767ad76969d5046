"""How the weights of a learner leave it: to engines, **published and sent**, and into folders, **exported**.

Every method is collective, since under ZeRO 3 all ranks gather every tensor; one rank of them hands it out or writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pangu_rl.accelerators import get_accelerator
from pangu_rl.accelerators.collective import TIMEOUT_S
from pangu_rl.checkpoint.adapter_folder import write_adapter
from pangu_rl.checkpoint.manifest import Entry
from pangu_rl.checkpoint.rank_files import fill_folder, write_files
from pangu_rl.config.paths import resolve_path
from pangu_rl.learner.lora import peft_config
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.learner.weights.checkpoint_names import Unit, as_checkpoint, plan_units, sources_of
from pangu_rl.learner.weights.export import SHARD_BYTES, plan_export, planned_names, write_model
from pangu_rl.learner.weights.parking import Parking
from pangu_rl.learner.weights.publish import BroadcastPublisher, Publisher, ShmPublisher, buffer_bytes
from pangu_rl.learner.weights.tensors import ModelWeights, Named, exhaust, released
from pangu_rl.records import WeightManifest

if TYPE_CHECKING:
    import torch


class Outlet:
    """Of one rank."""

    def __init__(self, spec: LearnerSpec, tensors: ModelWeights, device: torch.device, parking: Parking) -> None:
        """Nothing leaves while the tensors are parked."""
        self._spec, self.tensors, self._device, self._parking = spec, tensors, device, parking
        self._transport: str | None = None
        self._publisher: Publisher | None = None

    def open_publisher(
        self,
        transport: str,
        *,
        host: str = "127.0.0.1",
        receivers: int = 0,
        name: str = "",
        hands_out: bool | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Choose how `publish` hands weights out: `shm`, or `broadcast` to so many receivers through this host, no
        bucket of which may take longer than `timeout_s`.

        Rank 0 does, unless `hands_out` says otherwise; all that do so over shared memory share a `name`, so that one
        manifest is right on every node.
        """
        self.close()
        self._transport = transport
        if not (self._spec.rank == 0 if hands_out is None else hands_out):
            return
        if transport == "shm":
            self._publisher = ShmPublisher(buffer_bytes(self._published_sizes()), name=name)
        else:
            self._publisher = BroadcastPublisher(
                backend=get_accelerator(self._spec.accelerator).dist_backend,
                host=host,
                receivers=receivers,
                device=str(self._device),
                timeout_s=timeout_s,
            )

    def publish(self, version: int) -> WeightManifest | None:
        """Describe the weights as `version`, and over shared memory, which is the default, hand them out.

        By broadcast `send` hands them out, and they must not change before. With `learner.lora.in_engines` apart they
        are the adapters alone. Returns the manifest on rank 0, None elsewhere.
        """
        if self._transport is None:
            self.open_publisher("shm")
        manifest = self._publish(lambda weights: self._publisher.publish(version, weights))
        return replace(manifest, adapter=self._peft_config()) if manifest and self._apart else manifest

    def send(self) -> None:
        """Broadcast what was published, to receivers that load it meanwhile; over shared memory there is nothing to do.

        Raises:
            WeightSyncError: it did not reach them.
        """
        if self._transport == "broadcast":
            self._publish(lambda weights: self._publisher.send(weights))

    def export(self, directory: Path, shard_bytes: int = SHARD_BYTES) -> Future[dict[str, Entry]]:
        """Copy the model to rank 0's host, tensor by tensor, and write it into `directory` while training goes on, in
        Hugging Face layout with tokenizer and processor; it reloads to identical logits. The result is there when the
        files are; see `write_files`.

        Weights that have an adapter are written with it folded in."""
        lm = self.tensors.lm
        plan = plan_export(lm, self.tensors.described(), shard_bytes)
        copies = self._hand_out(
            lambda weights: [(name, tensor.to("cpu", copy=True)) for name, tensor in weights],
            self._spec.rank == 0,
            self.stream(planned_names(plan)),
        )
        if self._spec.rank != 0:
            return write_files(directory, {})
        source = resolve_path(self._spec.model.path)
        return fill_folder(directory, partial(write_model, directory, lm, plan, released(copies), source))

    def export_adapters(self, directory: Path) -> Future[dict[str, Entry]]:
        """As `export`, the adapters alone, in the layout of peft."""
        assert not self._parking.taken
        copies = {name: tensor.to("cpu", copy=True) for name, tensor in self.tensors.adapter_stream()}
        if self._spec.rank != 0:
            return write_files(directory, {})
        base = resolve_path(self._spec.model.path)
        stored = {unit.sources: unit.entries[0].name for unit in self._units}
        names = {name: stored.get((name,), name) for name in self.tensors.adapters}
        renamed = {name: other for name, other in names.items() if other != name}
        return fill_folder(directory, partial(write_adapter, directory, self._peft_config(), copies, base, renamed))

    def stream(self, names: Sequence[str] | None = None) -> Iterator[Named]:
        """As `ModelWeights.stream`."""
        assert not self._parking.taken
        return self.tensors.stream(names)

    def close(self) -> None:
        """Free the published buffers."""
        if self._publisher is not None:
            self._publisher.close()
            self._publisher = None

    @cached_property
    def _units(self) -> list[Unit]:
        """What engines know the weights as: the tensors of the model's checkpoint."""
        return plan_units(self.tensors.lm, self.tensors.described())

    @property
    def _apart(self) -> bool:
        lora = self._spec.learner.lora
        return lora is not None and lora.apart

    def _peft_config(self) -> dict[str, Any]:
        base = resolve_path(self._spec.model.path)
        return peft_config(self._spec.learner.lora, self.tensors.adapters.values(), base)

    def _published_sizes(self) -> list[int]:
        if self._apart:
            return self.tensors.adapter_sizes()
        return [entry.bytes for unit in self._units for entry in unit.entries]

    def _publish(self, take: Callable[[Iterator[Named]], Any]) -> Any:
        here = self._publisher is not None
        if self._apart:
            assert not self._parking.taken
            return self._hand_out(take, here, self.tensors.adapter_stream())
        lm, units = self.tensors.lm, self._units
        return self._hand_out(
            lambda weights: take(as_checkpoint(lm, units, weights)), here, self.stream(sources_of(units))
        )

    def _hand_out(self, take: Callable[[Iterator[Named]], Any], here: bool, weights: Iterator[Named]) -> Any:
        """What `take` makes of the weights on a rank that is `here`; the others, and one that fails, only gather."""
        try:
            return take(weights) if here else None
        finally:
            exhaust(weights)
