"""Offline packing as a stage: the rows of a training stage -> **sizes.parquet -> plan/**, which that stage takes."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from pangu_rl.checkpoint.model_folder import model_config
from pangu_rl.cluster.mapping import cluster_map
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.config.sections.packing import PackingConfig
from pangu_rl.errors import ConfigError
from pretrain.families import family_of
from pretrain.families.family import Family
from pretrain.packing.pack import pack_file
from pretrain.packing.pieces import pieces_of
from pretrain.processing.resize import TRAINING, PixelLimits
from pretrain.processing.video import VideoBudget
from pretrain.train.loader import require_plannable
from pretrain.train.measure import write_sizes

SIZES, PLAN = "sizes.parquet", "plan"


def run_pack(config: PretrainConfig) -> None:
    """Measure and pack; sizes that are there are kept. The configuration is that of the stage which trains by the plan:
    its rows, packs, ranks, pixels and shares. As many CPUs measure, and plan more than
    a piece, as the stage has ranks.

    Raises:
        UserError, RunError: as `write_sizes` and `pack_file` do.
    """
    model = resolve_path(config.model.path)
    require_plannable(family_of(model_config(model), model))
    folder = Path(config.trainer.run_dir)
    sizes = folder / SIZES
    if not sizes.is_file():
        write_sizes(config, sizes, workers=config.learner.ranks)
    many = pieces_of(sizes) > 1
    with cluster_map(config.cluster, config.learner.ranks) if many else nullcontext() as run:
        summary = pack_file(sizes, folder / PLAN, packing_of(config), run)
    if not summary.manifest["steps"]:
        raise ConfigError(
            f"{folder / PLAN}: no step: the rows fill less than a pack of learner.pack_tokens "
            f"{config.learner.pack_tokens} for each of {config.learner.groups} groups of learner.ranks: more rows, or "
            "fewer ranks"
        )


def packing_of(config: PretrainConfig) -> PackingConfig:
    """What `pangu-rl pack` would be told for the stage.

    Raises:
        ConfigError: shares that change from step to step, or of files.
    """
    if config.data.end_shares:
        raise ConfigError("data.end_shares go with packing online, a plan is of one mixture: leave them out")
    if isinstance(config.data.train, tuple) and (files := set(config.data.shares) & set(config.data.train)):
        raise ConfigError(
            f"data.shares names the file {min(files)}, a plan mixes by the `source` of rows: name sources"
        )
    model = resolve_path(config.model.path)
    family = family_of(model_config(model), model)
    limits = _limits(config, family)
    budget = (family.video_budget if family else None) or VideoBudget()
    return PackingConfig(
        context=config.learner.pack_tokens,
        ranks=config.learner.groups,
        global_batch=config.trainer.packs_per_step,
        visual_tokens=config.data.visual_tokens,
        min_pixels=limits.min_pixels,
        max_pixels=limits.max_pixels,
        video_pixels=budget.total_pixels,
        frame_min_pixels=budget.frame_min_pixels,
        frame_max_pixels=budget.frame_max_pixels,
        shares=config.data.shares,
        shares_by="samples" if config.data.shares_by == "samples" else "tokens",
        seed=config.trainer.seed,
    )


def _limits(config: PretrainConfig, family: Family | None) -> PixelLimits:
    """As the stage shows pictures; what they would be to a text model does not matter."""
    return PixelLimits.of(config.data) or (TRAINING if family is None else family.limits)
