"""The learner of one rank of the vision-only stage: pictures or regions -> **cluster loss -> AdamW** -> tower.

Plain data parallelism: the loss is over the global batch with sharded centres (`cluster_loss`), so gradients of the
tower and its head are summed over the ranks, and each rank updates its own centres.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import AutoTokenizer

from pangu_rl.accelerators import get_accelerator
from pangu_rl.checkpoint.manifest import Entry
from pangu_rl.checkpoint.rank_files import fill_folder, host_copy, write_files
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.data.pictures import in_threads
from pangu_rl.errors import CheckpointError, DataError
from pangu_rl.learner.measure.flops import WHOLE, ModelFlops
from pangu_rl.learner.measure.peak import matmul_peak
from pangu_rl.learner.model import DTYPES, load_causal_lm
from pangu_rl.learner.weights.export import plan_export, planned_names, write_model
from pangu_rl.learner.weights.tensors import released
from pretrain.contrastive.centres import ClassCentres, RowAdamW
from pretrain.contrastive.cluster_loss import cluster_loss
from pretrain.contrastive.heads import PictureHead, RegionHead
from pretrain.contrastive.regions import padded_classes, region_mask, sample_regions
from pretrain.contrastive.text_aware import text_aware_loss
from pretrain.families.pangu import Pangu
from pretrain.models.pangu_vl import PanguVLForConditionalGeneration
from pretrain.processing.patches import load_picture
from pretrain.processing.resize import PATCH, TOKEN, PixelLimits
from pretrain.train.vision.regions import Place


@dataclass(frozen=True, slots=True)
class PictureBatch:
    """One rank's part of a step."""

    images: tuple[str, ...]
    labels: Tensor | None
    """int64 [N, L]; None in the text-aware stage, which has places."""
    places: tuple[tuple[Place, ...], ...]
    """Of each picture; empty in the stage of whole pictures."""
    edge: int
    """Pixels: the area is at most `edge` squared, and no less than a token's width and height under it."""
    lr: float


class VisionLearner:
    """One rank. Every method but `save` and `export` is collective."""

    def __init__(self, config: VisionStageConfig, accelerator: str, rank: int, index: int = 0) -> None:
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
        self.done = 0.0
        """FLOPs of the tower in this rank's part of the step."""
        self.tower = lm.visual.to(self.device)
        self.tower.gradient_checkpointing = config.learner.gradient_checkpointing
        width = self.tower.config.hidden_size
        self.head = self._head(width).to(self.device)
        self.centres = self._centres(config.classes, seed=config.trainer.seed)
        self.tokenizer, self.token_centres = None, None
        if config.regions is not None:
            self.tokenizer = AutoTokenizer.from_pretrained(
                resolve_path(config.model.path), trust_remote_code=config.model.trust_remote_code
            )
            self.token_centres = self._centres(len(self.tokenizer), seed=config.trainer.seed + 1)
        self.trained = dict(_encoder_parameters(lm)) | {f"head.{n}": p for n, p in self.head.named_parameters()}
        self.optimizer = torch.optim.AdamW(self.trained.values(), lr=config.lr, weight_decay=config.weight_decay)
        tables = [table.weight for table in (self.centres, self.token_centres) if table is not None]
        self.centre_optimizer = RowAdamW(tables, lr=config.lr)
        self.media_root = resolve_path(config.data.media_root)

    def update(self, batch: PictureBatch, step: int) -> dict[str, float]:
        """One optimiser step; metrics of the global batch: `loss`, `grad_norm`, `lr`, `tflop` of the tower (its head
        and the classes are small beside it) and those of the loss.

        Raises:
            DataError: a picture that cannot be used.
        """
        self.done = 0.0
        loss, metrics = (
            self._picture_loss(batch, step) if self.config.regions is None else self._region_loss(batch, step)
        )
        loss.backward()
        if self.config.learner.ranks > 1:
            for parameter in self.trained.values():
                if parameter.grad is None:  # a rank whose pictures have no region at this step
                    parameter.grad = torch.zeros_like(parameter)
                dist.all_reduce(parameter.grad)
        norm = nn.utils.clip_grad_norm_(self.trained.values(), self.config.learner.grad_clip)
        for optimizer in (self.optimizer, self.centre_optimizer):
            for group in optimizer.param_groups:
                group["lr"] = batch.lr
            optimizer.step()
            optimizer.zero_grad()
        found = {"loss": loss.item(), "grad_norm": float(norm), "lr": batch.lr, "tflop": self._all_flops() / 1e12}
        return found | {name: value.item() for name, value in metrics.items()}

    def peak_flops(self) -> float:
        """FLOP/s that this rank's device reaches at most, measured now."""
        return matmul_peak(self.accelerator, self.device, DTYPES[self.config.model.dtype])

    def embed(self, images: tuple[str, ...], edge: int) -> Tensor:
        """float32 [N, D] of whole pictures; raises as `update`."""
        features, grids = self._features(images, edge)
        picture_of_patch = torch.repeat_interleave(torch.arange(len(grids)), grids.prod(1)).to(self.device)
        return self.head(features, picture_of_patch, len(grids))

    def _picture_loss(self, batch: PictureBatch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        embeddings = self.embed(batch.images, batch.edge)
        return cluster_loss(embeddings, batch.labels.to(self.device), self.centres, self.config.loss, step)

    def _region_loss(self, batch: PictureBatch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        features, grids = self._features(batch.images, batch.edge)
        shapes = [tuple(grid) for grid in grids.tolist()]
        kinds = []
        for is_line in (False, True):
            regions = [
                place.region(number, (columns * PATCH, rows * PATCH), self.tokenizer)
                for number, (places, (_, rows, columns)) in enumerate(zip(batch.places, shapes, strict=True))
                for place in places
                if (place.text is not None) == is_line
            ]
            config, seed = self.config.regions, self.config.trainer.seed + self.rank
            drawn = sample_regions(regions, config.per_picture, seed, step, config.min_side)
            mask = region_mask(drawn, shapes, PATCH).to(self.device)
            kinds.append((self.head(features, mask), padded_classes(drawn).to(self.device)))
        return text_aware_loss(*kinds, self.centres, self.token_centres, step, self.config.loss)

    def _features(self, images: tuple[str, ...], edge: int) -> tuple[Tensor, Tensor]:
        """float32 [P, W] and int64 [N, 3], the grids."""
        limits = PixelLimits(max(edge - TOKEN, TOKEN) ** 2, edge**2)
        loaded = list(in_threads(lambda name: load_picture(name, self.media_root, limits), images))
        patches = torch.from_numpy(np.concatenate([picture.patches for picture in loaded])).to(self.device)
        grids = torch.tensor([picture.grid for picture in loaded])
        self.done += WHOLE * self.flops.of_tower(grids.tolist())
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.model.dtype == "bfloat16"):
            return self.tower.patch_features(patches, grids).float(), grids

    def _all_flops(self) -> float:
        """Of the tower in this step, over all ranks."""
        total = torch.tensor(self.done, device=self.device)
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
            states["tower.pt"] = {"model": tower, "optimizer": self.optimizer.state_dict()}
        return write_files(directory, host_copy(states))

    def load(self, directory: Path) -> None:
        """Continue exactly where `save` was called.

        Raises:
            CheckpointError: a file is missing, or it was made by another tower, other classes or ranks.
        """
        try:
            tower = torch.load(directory / "tower.pt", weights_only=True)
            part = torch.load(directory / f"centres_{self.rank}.pt", weights_only=True)
            with torch.no_grad():
                for name, parameter in self.trained.items():
                    parameter.copy_(tower["model"][name])
            self.optimizer.load_state_dict(tower["optimizer"])
            for name, table in self._tables():
                table.load_state_dict(part[name])
            self.centre_optimizer.load_state_dict(part["optimizer"])
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
        if dist.is_initialized():
            dist.destroy_process_group()

    def _tables(self) -> list[tuple[str, ClassCentres]]:
        tables = {"clusters": self.centres, "tokens": self.token_centres}
        return [(name, table) for name, table in tables.items() if table is not None]


def _encoder_parameters(lm: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in lm.named_parameters() if name.startswith(Pangu.encoder)]
