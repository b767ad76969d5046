"""The learner of one rank: its packs of a mini-batch -> **DeepSpeed step** -> metrics, weights, checkpoints.

Gradients of all packs are summed in float32 and reduced once a step (ZeRO 0 and 1; 2 and 3 partition the gradients and
reduce at every pack). DeepSpeed averages over ranks while our losses are shares of a global mean, so the loss is
multiplied by the number of ranks. Under sequence parallelism too: the s ranks of a group work out the same loss of a
pack, each carries it back through its slice of the tokens and its pictures alone, and the gradient of the pack is the
sum over them (see `sequence_parallel`). So the gradient of the step is the sum over all ranks, whatever s is, and ZeRO
partitions over all of them. Metrics alone would count a pack s times. Letters: M targets of a pack.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from pangu_rl.accelerators import get_accelerator
from pangu_rl.config.paths import resolve_path
from pangu_rl.errors import CheckpointError, RunError
from pangu_rl.learner.engine import initialize, whole_parameters
from pangu_rl.learner.export import write_model
from pangu_rl.learner.model import PackTensors, check_packing, load_causal_lm
from pangu_rl.learner.objectives import add_totals, build_objective, reduce_totals
from pangu_rl.learner.packed_attention import attend_by
from pangu_rl.learner.parts import freeze_parts, parameter_groups
from pangu_rl.learner.pictures import is_multimodal
from pangu_rl.learner.profiling import profiled
from pangu_rl.learner.publish import BroadcastPublisher, Publisher, ShmPublisher
from pangu_rl.learner.repartition import repartition
from pangu_rl.learner.sequence_parallel import check_heads, open_sequence_group
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.learner.zero import check_precision
from pangu_rl.records import MiniBatch, Pack, WeightManifest


class Learner:
    """One rank. Every method is collective: all ranks call it, `log_probs` and `update` with equal numbers of packs."""

    def __init__(self, spec: LearnerSpec) -> None:
        """Join the ranks at MASTER_ADDR:MASTER_PORT and build the engine.

        Raises:
            DataError: the model folder cannot be used (see `load_causal_lm`).
            ConfigError: bf16 with ZeRO 0, or attention heads that `sequence_parallel` does not divide.
        """
        check_precision(spec)
        check_heads(spec.model, spec.learner.sequence_parallel)
        self.spec = spec
        self.accelerator = get_accelerator(spec.accelerator)
        torch.manual_seed(spec.seed)
        lm = load_causal_lm(spec.model)
        freeze_parts(lm, spec.learner)
        groups = parameter_groups(lm, spec.learner)
        if spec.learner.gradient_checkpointing:
            lm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            lm.train()
        self.engine = initialize(spec, lm, list(groups.values()), self.accelerator.dist_backend)
        self.sequence = open_sequence_group(spec.learner.sequence_parallel)
        self.rates = tuple(groups)
        self.lm = lm
        self.device = next(lm.parameters()).device
        self.objective = build_objective(spec)
        self.nonfinite_in_a_row = 0
        self._publisher: Publisher | None = None
        self._profile: Path | None = None

    def profile_next(self, folder: Path) -> None:
        """Profile the next `update` of this rank alone, into `folder` (see `profiling`)."""
        self._profile = folder

    @torch.no_grad()
    def log_probs(self, packs: Sequence[Pack], temperature: float | None = None) -> list[np.ndarray]:
        """Log-probs of every pack's targets under the current weights, float32 [M] each, at the sampling temperature
        unless another is given."""
        results = []
        for pack in packs:
            batch = PackTensors.of(pack, self.device, self.sequence)
            with attend_by(batch.layout):
                results.append(self.engine(batch, temperature)[0].cpu().numpy())
        return results

    def update(self, batches: Sequence[MiniBatch]) -> list[dict[str, float]]:
        """One optimiser step per mini-batch; metrics of the global mini-batch, the same on every rank.

        Where a GRPO step has several mini-batches and no `old_logprobs`, these are computed before the first update.
        Beside the objective's metrics: `loss`, `tokens` (trained, global), `grad_norm` (before clipping), `lr`,
        `lr_encoder` of a multimodal model, and `skipped` (1 when a non-finite gradient left the weights as they were).

        Raises:
            RunError: more than `nonfinite_limit` steps in a row were skipped.
        """
        folder, self._profile = self._profile, None
        with nullcontext() if folder is None else profiled(folder, self.accelerator):
            return [self._step(batch) for batch in self._freeze_old(batches)]

    @torch.no_grad()
    def check_packing(self, packs: Sequence[Pack]) -> dict[str, float]:
        """Packed against plain log-probs of the same tokens: `model.check_packing`, which raises on a difference."""
        return check_packing(
            self.engine,
            self.lm,
            packs,
            temperature=self.spec.temperature,
            plain_attention=self.accelerator.attn_implementation,
            sequence=self.sequence,
        )

    def open_publisher(self, transport: str, *, host: str = "127.0.0.1", receivers: int = 0) -> None:
        """Choose how `publish` hands weights out: `shm`, or `broadcast` to so many receivers through this host."""
        self._close_publisher()
        if self.spec.rank != 0:
            return
        if transport == "shm":
            self._publisher = ShmPublisher()
        else:
            backend, device = self.accelerator.dist_backend, str(self.device)
            self._publisher = BroadcastPublisher(backend=backend, host=host, receivers=receivers, device=device)

    def publish(self, version: int) -> WeightManifest | None:
        """Hand the weights out as `version`, over shared memory unless `open_publisher` said otherwise.

        Returns the manifest on rank 0, None elsewhere.
        """
        if self._publisher is None:
            self.open_publisher("shm")
        weights = self._weights()
        if self._publisher is not None:
            return self._publisher.publish(version, weights)
        for _ in weights:
            pass
        return None

    def save(self, directory: Path) -> None:
        """Write this rank's part of a checkpoint into `directory`, which exists."""
        self.engine.save_checkpoint(str(directory), tag="engine")
        torch.save(self.accelerator.rng_state(), directory / f"rng_{self.spec.rank}.pt")
        if self.spec.rank == 0:
            state = {"nonfinite_in_a_row": self.nonfinite_in_a_row, "objective": self.objective.state_dict()}
            identity = self._identity() | state
            (directory / "learner.json").write_text(json.dumps(identity, indent=1), encoding="utf-8")

    def load(self, directory: Path) -> None:
        """Continue exactly where `save` was called; under ZeRO 0 to 2 also with another number of ranks.

        Raises:
            CheckpointError: a file is missing, or it was made by another ZeRO stage, model or dtype, or under ZeRO 3 by
                other ranks.
        """
        try:
            saved = json.loads((directory / "learner.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{directory}: not a learner checkpoint: {error}") from None
        for name, value in self._identity().items():
            may_differ = name == "world_size" and self.spec.learner.zero_stage < 3
            if saved.get(name) != value and not may_differ:
                raise CheckpointError(f"{directory}: saved with {name} {saved.get(name)!r}, this run has {value!r}")
        ranks = saved["world_size"]
        with self._cut_for_our_ranks(directory, ranks) as folder:
            path, _ = self.engine.load_checkpoint(str(folder), tag="engine")
        if path is None:
            raise CheckpointError(f"{directory}: DeepSpeed finds no checkpoint in it")
        self.accelerator.set_rng_state(torch.load(directory / f"rng_{self.spec.rank % ranks}.pt", weights_only=True))
        self.nonfinite_in_a_row = saved["nonfinite_in_a_row"]
        self.objective.load_state_dict(saved.get("objective", {}))

    def export(self, directory: Path) -> None:
        """Write the model in Hugging Face layout, with its tokenizer and processor; it reloads to identical logits."""
        state = {name: tensor.detach().to("cpu", copy=True) for name, tensor in self._weights()}
        if self.spec.rank == 0:
            write_model(directory, self.lm, state, resolve_path(self.spec.model.path))
        self._meet()

    def close(self) -> None:
        """Free the published buffers and leave the group."""
        self._close_publisher()
        if dist.is_initialized():
            dist.destroy_process_group()

    @contextmanager
    def _cut_for_our_ranks(self, directory: Path, ranks: int) -> Iterator[Path]:
        """`directory` itself, or for as long as it is needed a copy that our number of ranks might have written."""
        if ranks == self.spec.world_size:
            yield directory
            return
        # Not inside the checkpoint, which is sealed.
        folder = directory.parents[1] / f".{directory.parent.name}.for_{self.spec.world_size}_ranks"
        if self.spec.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
            load = self.engine.checkpoint_engine.load
            repartition(directory / "engine", folder / "engine", self.spec.world_size, load)
        self._meet()
        yield folder
        self._meet()
        if self.spec.rank == 0:
            shutil.rmtree(folder)

    def _meet(self) -> None:
        if self.spec.world_size > 1:
            dist.barrier()

    def _step(self, mini_batch: MiniBatch) -> dict[str, float]:
        totals: dict[str, Tensor] = {}
        statistic = self._statistic(mini_batch.packs[1:], mini_batch)
        for index, pack in enumerate(mini_batch.packs):
            batch = PackTensors.of(pack, self.device, self.sequence)
            # Open through backward: gradient checkpointing runs the layers again in it.
            with attend_by(batch.layout):
                logp, entropy = self.engine(batch)
                if index == 0 and statistic is not None:
                    statistic += self.objective.statistic.share(logp, batch, mini_batch)
                    self.objective.statistic.take(self._reduced({"share": statistic})["share"])
                loss, terms = self.objective.loss(logp, entropy, batch, mini_batch)
                self.engine.backward(loss * self.spec.world_size, scale_wrt_gas=False)
            add_totals(totals, terms | {"loss": loss.detach()})
        rates = dict(zip(self.rates, self.engine.get_lr(), strict=True))
        self.engine.step()
        sums = self._reduced(totals)
        metrics = {"loss": sums.pop("loss"), "tokens": float(mini_batch.loss_tokens)}
        return metrics | rates | self._outcome() | self.objective.means(sums)

    @torch.no_grad()
    def _statistic(self, packs: Sequence[Pack], mini_batch: MiniBatch) -> Tensor | None:
        """What `packs` add to the objective's statistic, by a forward pass each; None when it has none.

        The first pack's share comes from the pass that its gradient needs anyway: one pack a rank costs nothing more.
        """
        if self.objective.statistic is None:
            return None
        total = torch.zeros((), device=self.device)
        for pack in packs:
            batch = PackTensors.of(pack, self.device, self.sequence)
            with attend_by(batch.layout):
                total += self.objective.statistic.share(self.engine(batch)[0], batch, mini_batch)
        return total

    def _reduced(self, totals: dict[str, Tensor]) -> dict[str, float]:
        """Of the global mini-batch; every rank of a sequence group has those of its packs."""
        return reduce_totals(totals, self.spec.world_size, copies=self.spec.learner.sequence_parallel)

    def _outcome(self) -> dict[str, float]:
        skipped = not self.engine.was_step_applied()
        self.nonfinite_in_a_row = self.nonfinite_in_a_row + 1 if skipped else 0
        if self.nonfinite_in_a_row > self.spec.learner.nonfinite_limit:
            raise RunError(
                f"the gradient was not finite in {self.nonfinite_in_a_row} steps in a row "
                f"(learner.nonfinite_limit {self.spec.learner.nonfinite_limit}): lower learner.optimizer.lr, or look "
                "at the run's last rollouts"
            )
        return {"grad_norm": float(self.engine.get_global_grad_norm()), "skipped": float(skipped)}

    def _freeze_old(self, batches: Sequence[MiniBatch]) -> list[MiniBatch]:
        # The first mini-batch's own forward gives its old log-probs: nothing has been updated yet.
        frozen = list(batches[:1])
        for batch in batches[1:]:
            if self.spec.objective != "grpo" or all("old_logprobs" in pack.columns for pack in batch.packs):
                frozen.append(batch)
                continue
            old = self.log_probs(batch.packs)
            packs = [replace(p, columns=p.columns | {"old_logprobs": o}) for p, o in zip(batch.packs, old)]
            frozen.append(replace(batch, packs=tuple(packs)))
        return frozen

    def _weights(self) -> Iterator[tuple[str, Tensor]]:
        """The tensors of a checkpoint, tied ones once; under ZeRO 3 every rank must exhaust the iterator."""
        yield from whole_parameters(self.lm, self.spec.learner.zero_stage)
        persistent = self.lm.state_dict().keys()
        yield from ((name, buffer) for name, buffer in self.lm.named_buffers() if name in persistent)

    def _identity(self) -> dict[str, Any]:
        identity = {
            "world_size": self.spec.world_size,
            "zero_stage": self.spec.learner.zero_stage,
            "dtype": self.spec.model.dtype,
            "model_type": self.lm.config.model_type,
            "parameters": {name: list(getattr(p, "ds_shape", p.shape)) for name, p in self.lm.named_parameters()},
        }
        if is_multimodal(self.lm):
            identity["trainable"] = sorted(set(self.spec.learner.trainable))
        return identity

    def _close_publisher(self) -> None:
        if self._publisher is not None:
            self._publisher.close()
            self._publisher = None
