"""The learner of one rank: its packs of a mini-batch -> **DeepSpeed step** -> metrics, checkpoints, weights (`Outlet`).

Gradients of all packs are summed in float32 and reduced once a step (ZeRO 0 and 1; 2 and 3 partition the gradients and
reduce at every pack). DeepSpeed averages over ranks while our losses are shares of a global mean, so the loss is
multiplied by the number of ranks. Under sequence parallelism too: the s ranks of a group work out the same loss of a
pack, each carries it back through its slice of the tokens and its pictures alone, and the gradient of the pack is the
sum over them (see `sequence_parallel`). So the gradient of the step is the sum over all ranks, whatever s is, and ZeRO
partitions over all of them. Metrics alone would count a pack s times. Letters: M targets of a pack.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from pangu_rl.accelerators import get_accelerator
from pangu_rl.accelerators.ops import take_fallbacks
from pangu_rl.checkpoint.manifest import Entry
from pangu_rl.learner.checks.packing_check import PackingCheck, check_packing
from pangu_rl.learner.checks.trial_pack import trial_pack
from pangu_rl.learner.engine import (
    gathered,
    held_tensors,
    initialize,
    join_ranks,
    placement,
)
from pangu_rl.learner.expert_load import ExpertLoad
from pangu_rl.learner.lora import adapters_of, add_adapters, without_adapters
from pangu_rl.learner.measure.flops import ModelFlops
from pangu_rl.learner.measure.peak import matmul_peak
from pangu_rl.learner.measure.profiling import profiled
from pangu_rl.learner.model import PackTensors, checkpoint_layers, load_causal_lm
from pangu_rl.learner.nonfinite import SkippedSteps
from pangu_rl.learner.objectives import add_totals, build_objective, reduce_totals
from pangu_rl.learner.packed_attention import attend_by
from pangu_rl.learner.parallel.sequence_parallel import check_heads, open_sequence_group
from pangu_rl.learner.parallel.zero import check_precision, check_streams
from pangu_rl.learner.parts import freeze_parts, parameter_groups
from pangu_rl.learner.rank_state import RankState, identity_of
from pangu_rl.learner.reference import Model, beside, held_reference
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.learner.weights.outlet import Outlet
from pangu_rl.learner.weights.parking import Parking
from pangu_rl.learner.weights.tensors import ModelWeights
from pangu_rl.records import MiniBatch, PackLike


class Learner:
    """One rank. Every method is collective: all ranks call it, `log_probs` and `update` with equal numbers of packs."""

    def __init__(self, spec: LearnerSpec) -> None:
        """Join the ranks at MASTER_ADDR:MASTER_PORT and build the engine.

        Raises:
            DataError: the model folder cannot be used (see `load_causal_lm`).
            ConfigError: bf16 with ZeRO 0, overlap without streams, or attention heads that `sequence_parallel` does not
                divide.
        """
        check_precision(spec)
        check_streams(spec)
        check_heads(spec.model, spec.learner.sequence_parallel)
        self.spec = spec
        self.accelerator = get_accelerator(spec.accelerator)
        torch.manual_seed(spec.seed)
        self.device = join_ranks(spec, self.accelerator.dist_backend)
        lm = load_causal_lm(spec.model, placement(spec, self.device)).to(self.device)
        freeze_parts(lm, spec.learner)
        if spec.learner.lora is not None:
            add_adapters(lm, spec.learner, spec.seed)
        groups = parameter_groups(lm, spec.learner)
        self.rates = tuple(rate for rate, _ in groups)
        # Now, since DeepSpeed puts one flat tensor in the place of a group's parameters.
        sizes = {rate: [len(group["params"]) for name, group in groups if name == rate] for rate in self.rates}
        if spec.learner.gradient_checkpointing:
            checkpoint_layers(lm)
        self.engine = initialize(spec, lm, [group for _, group in groups])
        self.sequence = open_sequence_group(spec.learner.sequence_parallel)
        self.lm = lm
        self.adapted = spec.learner.lora is not None
        self._experts = ExpertLoad(lm)
        self.objective = build_objective(spec)
        has_kl = spec.objective == "grpo" and spec.algorithm.kl_weight > 0
        self.reference = self._reference() if has_kl else None
        self.flops = ModelFlops.of(lm.config)
        self.skipped = SkippedSteps(
            spec.learner.nonfinite_limit, "lower learner.optimizer.lr, or look at the run's last rows"
        )
        self._state = RankState(
            spec=spec,
            engine=self.engine,
            accelerator=self.accelerator,
            skipped=self.skipped,
            objective=self.objective,
            identity=identity_of(spec, lm, sizes),
        )
        self.old_logprobs: list[dict[int, np.ndarray]] = []
        """[mini-batch] of the last update of GRPO: sequence -> float32 [T], under the weights before it."""
        self._profile: Path | None = None
        self._parking = Parking(self.accelerator, self.device)
        self.outlet = Outlet(spec, ModelWeights(lm, gathered, adapters_of(lm)), self.device, self._parking)

    def profile_next(self, folder: Path) -> None:
        """Profile the next `update` of this rank alone, into `folder` (see `profiling`)."""
        self._profile = folder

    @torch.no_grad()
    def log_probs(
        self, packs: Sequence[PackLike], temperature: float | None = None, adapted: bool = True
    ) -> list[np.ndarray]:
        """Log-probs of every pack's targets under the current weights, float32 [M] each, at the sampling temperature
        unless another is given; not `adapted`, adapters are switched off, if there are any."""
        results = []
        with nullcontext() if adapted else without_adapters(self.lm):
            for batch in self._on_device(packs):
                with attend_by(batch.layout):
                    results.append(self.engine(batch, temperature)[0].cpu().numpy())
        return results

    def update(self, batches: Sequence[MiniBatch]) -> list[dict[str, float]]:
        """One optimiser step per mini-batch; metrics of the global mini-batch, the same on every rank.

        Where a GRPO step has several mini-batches and no `old_logprobs`, these are computed before the first update.
        Beside the objective's metrics: `loss`, `tokens` (trained, global), `tflop` (10^12 operations that the step's
        mathematics asks for), `grad_norm` (before clipping), `lr`, `lr_encoder` of a multimodal model, `skipped` (1
        when a non-finite gradient left the weights as they were), `fallback_ops` (fused operations of this rank that
        plain torch computed where its device has a kernel), and those of `ExpertLoad` of a mixture of experts.

        Raises:
            RunError: more than `nonfinite_limit` steps in a row were skipped.
        """
        take_fallbacks()  # those of other passes
        self.old_logprobs = []
        folder, self._profile = self._profile, None
        with nullcontext() if folder is None else profiled(folder, self.accelerator):
            return [self._step(batch) for batch in self._freeze_old(batches)]

    def check_packing(self) -> PackingCheck:
        """Packed against plain log-probs of made-up sequences; see `packing_check`, which raises on a difference."""
        return check_packing(self.engine, self.lm, trial_pack(self.lm), self.sequence)

    def peak_flops(self) -> float:
        """FLOP/s that this rank's device reaches at most, `peak_tflops` or measured now."""
        if self.spec.learner.peak_tflops is not None:
            return self.spec.learner.peak_tflops * 1e12
        return matmul_peak(self.accelerator, self.device, self.lm.dtype)

    def to_host(self) -> int:
        """Leave the device to an engine until `to_device`: all that is kept between steps goes into host memory.

        Returns its bytes. Nothing else may be asked of this learner meanwhile.

        Raises:
            ConfigError: a node's memory does not hold it.
        """
        held = self.reference if isinstance(self.reference, nn.Module) else nn.Module()
        return self._parking.park(chain(held_tensors(self.engine), held.parameters(), held.buffers()))

    def to_device(self) -> None:
        """Undo `to_host`, to the bit."""
        self._parking.fetch()

    def save(self, directory: Path) -> Future[dict[str, Entry]]:
        """Copy this rank's part of a checkpoint and write it while training goes on; see `RankState.save`."""
        assert not self._parking.taken
        return self._state.save(directory)

    def load(self, directory: Path) -> None:
        """Continue exactly where `save` was called; see `RankState.load`, which raises."""
        assert not self._parking.taken
        self._state.load(directory)

    def close(self) -> None:
        """Free the published buffers and leave the group."""
        self.outlet.close()
        if dist.is_initialized():
            dist.destroy_process_group()

    def _step(self, mini_batch: MiniBatch) -> dict[str, float]:
        totals: dict[str, Tensor] = {}
        self._experts.reset()
        statistic = self._statistic(mini_batch.packs[1:], mini_batch)
        old: list[Tensor] = []
        for index, (pack, batch) in enumerate(zip(mini_batch.packs, self._on_device(mini_batch.packs), strict=True)):
            # Open through backward: gradient checkpointing runs the layers again in it.
            with attend_by(batch.layout):
                if self.reference is not None:
                    batch = beside(self.reference, batch)
                logp, entropy = self.engine(batch)
                if index == 0 and statistic is not None:
                    statistic += self.objective.statistic.share(logp, batch, mini_batch)
                    self.objective.statistic.take(self._reduced({"share": statistic})["share"])
                if self.spec.objective == "grpo":
                    old.append(batch.columns.get("old_logprobs", logp).detach())
                loss, terms = self.objective.loss(logp, entropy, batch, mini_batch)
                self.engine.backward(loss * self.spec.world_size, scale_wrt_gas=False)
            work = loss.new_tensor(self.flops.of_training(pack, self.spec.learner.trainable, self.adapted) / 1e12)
            add_totals(totals, terms | {"loss": loss.detach(), "tflop": work})
        rates = dict(zip(self.rates, self.engine.get_lr(), strict=True))
        self.engine.step()
        self.old_logprobs.append(_by_sequence(mini_batch.packs[: len(old)], old))
        sums = self._reduced(totals)
        metrics = {name: sums.pop(name) for name in ("loss", "tflop")} | {"tokens": float(mini_batch.loss_tokens)}
        metrics["fallback_ops"] = float(take_fallbacks())
        metrics |= self._experts.take(self.spec.world_size)
        return metrics | rates | self._outcome() | self.objective.means(sums)

    def _reference(self) -> Model:
        if not self.adapted:
            return held_reference(self.spec, self.device)

        def bare(batch: PackTensors) -> tuple[Tensor, Tensor]:
            with without_adapters(self.lm):
                return self.engine(batch)

        return bare

    def _on_device(self, packs: Sequence[PackLike]) -> Iterator[PackTensors]:
        """The packs in order, each laid out and brought to the device while that still works on the one before."""
        assert not self._parking.taken
        batches = (PackTensors.of(pack.lay_out(), self.device, self.sequence) for pack in packs)
        ahead = next(batches, None)
        while ahead is not None:
            batch, ahead = ahead, next(batches, None)
            yield batch

    @torch.no_grad()
    def _statistic(self, packs: Sequence[PackLike], mini_batch: MiniBatch) -> Tensor | None:
        """What `packs` add to the objective's statistic, by a forward pass each; None when it has none.

        The first pack's share comes from the pass that its gradient needs anyway: one pack a rank costs nothing more.
        """
        if self.objective.statistic is None:
            return None
        total = torch.zeros((), device=self.device)
        for batch in self._on_device(packs):
            with attend_by(batch.layout):
                total += self.objective.statistic.share(self.engine(batch)[0], batch, mini_batch)
        return total

    def _reduced(self, totals: dict[str, Tensor]) -> dict[str, float]:
        """Of the global mini-batch; every rank of a sequence group has those of its packs."""
        return reduce_totals(totals, self.spec.world_size, copies=self.spec.learner.sequence_parallel)

    def _outcome(self) -> dict[str, float]:
        norm = float(self.engine.get_global_grad_norm())
        return {"grad_norm": norm} | self.skipped.took(not self.engine.was_step_applied())

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


def _by_sequence(packs: Sequence[PackLike], columns: Sequence[Tensor]) -> dict[int, np.ndarray]:
    """Of columns, [M] each, what each sequence has of them: it lies in one piece."""
    found = {}
    for pack, column in zip(packs, columns, strict=True):
        values = column.cpu().numpy()
        parts = zip(*np.unique(pack.sequence_ids, return_index=True, return_counts=True), strict=True)
        found |= {int(sequence): values[start : start + count] for sequence, start, count in parts}
    return found
