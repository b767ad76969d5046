"""The learner of one rank of the vision-only stage: pictures or regions -> **cluster loss -> AdamW** -> tower.

Plain data parallelism: the loss is over the global batch with sharded centres (`cluster_loss`), so gradients of the
tower and its head are summed over the ranks, and each rank updates its own centres.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import AutoTokenizer

from pangu_rl.accelerators import get_accelerator
from pangu_rl.checkpoint.manifest import Entry
from pangu_rl.checkpoint.rank_files import fill_folder, host_copy, write_files
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.errors import CheckpointError, DataError
from pangu_rl.learner.measure.flops import WHOLE, ModelFlops
from pangu_rl.learner.measure.peak import matmul_peak
from pangu_rl.learner.model import DTYPES, load_causal_lm
from pangu_rl.learner.nonfinite import SkippedSteps
from pangu_rl.learner.parts import decays
from pangu_rl.learner.weights.export import plan_export, planned_names, write_model
from pangu_rl.learner.weights.tensors import released
from pretrain.contrastive.cached_gradients import backward_in_parts
from pretrain.contrastive.centres import ClassCentres, RowAdamW
from pretrain.contrastive.cluster_loss import cluster_loss
from pretrain.contrastive.heads import PictureHead, RegionHead
from pretrain.contrastive.text_aware import text_aware_loss
from pretrain.families.pangu import Pangu
from pretrain.models.pangu_vl import PanguVLForConditionalGeneration
from pretrain.train.vision.batches import BatchReader, MicroBatch, PictureBatch, padded_labels


class VisionLearner:
    """One rank. Every method but `save` and `export` is collective."""

    def __init__(
        self, config: VisionStageConfig, accelerator: str, rank: int, reader: BatchReader, index: int = 0
    ) -> None:
        """Join the ranks at MASTER_ADDR:MASTER_PORT and build tower, head, centres and their optimisers, on the device
        of that index in this process.

        Raises:
            DataError: the model folder cannot be used, or is a text model.
        """
        self.config, self.rank = config, rank
        self.accelerator = get_accelerator(accelerator)
        if config.learner.ranks > 1:
            dist.init_process_group(self.accelerator.dist_backend, rank=rank, world_size=config.learner.ranks)
        torch.manual_seed(config.trainer.seed)
        lm = load_causal_lm(config.model.model_copy(update={"dtype": "float32"}))
        if not isinstance(lm, PanguVLForConditionalGeneration):
            raise DataError(
                f"model.path {config.model.path} is a {lm.config.model_type}: this stage trains the tower of "
                "openPangu-VL or MindVL, give one of them"
            )
        self.device = torch.device(self.accelerator.device(index))
        self.lm = lm
        self.flops = ModelFlops.of(lm.config)
        self.tower = lm.visual.to(self.device)
        self.tower.gradient_checkpointing = config.learner.gradient_checkpointing
        width = self.tower.config.hidden_size
        self.head = self._head(width).to(self.device)
        self.centres = self._centres(config.classes, seed=config.trainer.seed)
        self.token_centres = None
        if config.regions is not None:
            tokenizer = AutoTokenizer.from_pretrained(
                resolve_path(config.model.path), trust_remote_code=config.model.trust_remote_code
            )
            self.token_centres = self._centres(len(tokenizer), seed=config.trainer.seed + 1)
        self.trained = dict(_encoder_parameters(lm)) | {f"head.{n}": p for n, p in self.head.named_parameters()}
        self.optimizer = torch.optim.AdamW(decay_groups(self.trained, config.weight_decay), lr=config.lr)
        tables = [table.weight for table in (self.centres, self.token_centres) if table is not None]
        self.centre_optimizer = RowAdamW(tables, lr=config.lr)
        self.skipped = SkippedSteps(config.learner.nonfinite_limit, "lower lr, or look at the pictures of these steps")
        self.reader = reader
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._ahead: deque[tuple[PictureBatch, int, Future[list[MicroBatch]]]] = deque()

    def prepare(self, batch: PictureBatch, step: int) -> None:
        """Begin to read and decode this rank's part of `step`; returns at once."""
        self._ahead.append((batch, step, self._thread.submit(self.reader.load, batch, step)))

    def wait(self) -> list[str]:
        """Until the oldest step that was prepared is read: why some of its pictures were left out. Raises as
        `update`."""
        return [reason for part in self._ahead[0][2].result() for reason in part.skipped]

    def update(self) -> dict[str, float]:
        """One optimiser step, the oldest that was prepared; metrics of the global batch: `loss`, `grad_norm`, `lr`,
        `tflop` of the tower (its head and the classes are small beside it), `skipped` (1 when a gradient that was not
        finite on one rank left the weights of all as they were) and those of the loss.

        Raises:
            DataError: a picture that cannot be used. RunError: more than `nonfinite_limit` steps in a row were skipped.
        """
        batch, step, loading = self._ahead.popleft()
        parts = loading.result()
        flops = WHOLE * sum(self.flops.of_tower(part.grids.tolist()) for part in parts)
        loss, metrics = backward_in_parts(parts, self._embedded, lambda found: self._loss(found, parts, step))
        if self.config.learner.ranks > 1:
            for parameter in self.trained.values():
                if parameter.grad is None:  # a rank whose pictures have no region at this step
                    parameter.grad = torch.zeros_like(parameter)
                dist.all_reduce(parameter.grad)
        norm = nn.utils.clip_grad_norm_(self.trained.values(), self.config.learner.grad_clip)
        # A rank's own centres, whose gradients are summed over nobody, may be the only ones.
        skipped = self._summed(0.0 if torch.isfinite(norm) and self._centres_are_finite() else 1.0) > 0
        for optimizer in (self.optimizer, self.centre_optimizer):
            for group in optimizer.param_groups:
                group["lr"] = batch.lr
            if not skipped:
                optimizer.step()
            optimizer.zero_grad()
        found = {"loss": loss.item(), "grad_norm": float(norm), "lr": batch.lr, "tflop": self._summed(flops) / 1e12}
        return found | self.skipped.took(skipped) | {name: value.item() for name, value in metrics.items()}

    def peak_flops(self) -> float:
        """FLOP/s that this rank's device reaches at most, measured now."""
        return matmul_peak(self.accelerator, self.device, DTYPES[self.config.model.dtype])

    def _embedded(self, part: MicroBatch) -> tuple[Tensor, ...]:
        """float32 [N, D] of the pictures, or [S, D] of their objects and of their lines."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.model.dtype == "bfloat16"):
            features = self.tower.patch_features(part.patches.to(self.device), part.grids).float()
        if self.config.regions is not None:
            return tuple(self.head(features, own.patches.to(self.device)) for own in part.regions)
        picture_of_patch = torch.repeat_interleave(torch.arange(len(part.grids)), part.grids.prod(1)).to(self.device)
        return (self.head(features, picture_of_patch, len(part.grids)),)

    def _loss(
        self, found: tuple[Tensor, ...], parts: Sequence[MicroBatch], step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Of the embeddings of all `parts`."""
        if self.config.regions is None:
            labels = padded_labels([part.labels for part in parts]).to(self.device)
            return cluster_loss(found[0], labels, self.centres, self.config.loss, step)
        kinds = [
            (embeddings, padded_labels([part.regions[kind].classes for part in parts]).to(self.device))
            for kind, embeddings in enumerate(found)
        ]
        return text_aware_loss(*kinds, self.centres, self.token_centres, step, self.config.loss)

    def _centres_are_finite(self) -> bool:
        gradients = [table.weight.grad for _, table in self._tables() if table.weight.grad is not None]
        return all(bool(gradient.coalesce().values().isfinite().all()) for gradient in gradients)

    def _summed(self, value: float) -> float:
        """Over all ranks."""
        total = torch.tensor(value, device=self.device)
        if self.config.learner.ranks > 1:
            dist.all_reduce(total)
        return total.item()

    def _head(self, width: int) -> nn.Module:
        if self.config.regions is None:
            return PictureHead(width, self.config.learner.embedding)
        return RegionHead(width, self.tower.config.num_heads, self.config.learner.embedding)

    def _centres(self, classes: int, seed: int) -> ClassCentres:
        return ClassCentres(classes, self.config.learner.embedding, seed=seed).to(self.device)

    def save(self, directory: Path) -> Future[dict[str, Entry]]:
        """Copy this rank's part of a checkpoint and write it into `directory`, which exists, while training goes on.

        The result is there when the files are; see `write_files`.
        """
        part = {name: table.state_dict() for name, table in self._tables()}
        states = {f"centres_{self.rank}.pt": part | {"optimizer": self.centre_optimizer.state_dict()}}
        if self.rank == 0:
            tower = {name: parameter.detach() for name, parameter in self.trained.items()}
            states["tower.pt"] = {
                "model": tower,
                "optimizer": self.optimizer.state_dict(),
                "nonfinite_in_a_row": self.skipped.in_a_row,
            }
        return write_files(directory, host_copy(states))

    def load(self, directory: Path) -> None:
        """Continue exactly where `save` was called.

        Raises:
            CheckpointError: a file is missing, or it was made by another tower, other classes or ranks, or while norms
                and biases decayed.
        """
        try:
            tower = torch.load(directory / "tower.pt", weights_only=True)
            part = torch.load(directory / f"centres_{self.rank}.pt", weights_only=True)
            saved, ours = (_sizes(state) for state in (tower["optimizer"], self.optimizer.state_dict()))
            if saved != ours:
                raise CheckpointError(
                    f"{directory}: saved with parameter groups of {saved}, this run has {ours}, matrices that decay "
                    "and vectors that do not: start in a new run_dir"
                )
            with torch.no_grad():
                for name, parameter in self.trained.items():
                    parameter.copy_(tower["model"][name])
            self.optimizer.load_state_dict(tower["optimizer"])
            for name, table in self._tables():
                table.load_state_dict(part[name])
            self.centre_optimizer.load_state_dict(part["optimizer"])
            self.skipped.in_a_row = tower["nonfinite_in_a_row"]
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{directory}: not a checkpoint of this tower and these ranks: {error}") from None

    def export(self, directory: Path) -> Future[dict[str, Entry]]:
        """Copy the model that the stage started from, with the trained tower and in the dtype it was saved in, and have
        rank 0 write it into `directory` while training goes on. The result as of `save`."""
        if self.rank != 0:
            return write_files(directory, {})
        source = resolve_path(self.config.model.path)
        dtype = torch.bfloat16 if self.config.model.dtype == "bfloat16" else torch.float32
        self.lm.config.dtype = dtype
        tensors = dict(self.lm.named_parameters())
        described = {name: torch.empty_like(tensor, dtype=dtype, device="meta") for name, tensor in tensors.items()}
        plan = plan_export(self.lm, described)
        copies = [(name, tensors[name].detach().to("cpu", dtype, copy=True)) for name in planned_names(plan)]
        return fill_folder(directory, partial(write_model, directory, self.lm, plan, released(copies), source))

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        if dist.is_initialized():
            dist.destroy_process_group()

    def _tables(self) -> list[tuple[str, ClassCentres]]:
        tables = {"clusters": self.centres, "tokens": self.token_centres}
        return [(name, table) for name, table in tables.items() if table is not None]


def decay_groups(parameters: Mapping[str, nn.Parameter], amount: float) -> list[dict[str, Any]]:
    """AdamW's parameter groups, as the language model's learner has them: what decays, then what does not."""
    members: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in parameters.items():
        members[decays(name, parameter)].append(parameter)
    return [{"params": own, "weight_decay": amount * does} for does, own in members.items()]


def _sizes(optimizer: Mapping[str, Any]) -> list[int]:
    return [len(group["params"]) for group in optimizer["param_groups"]]


def _encoder_parameters(lm: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in lm.named_parameters() if name.startswith(Pangu.encoder)]
