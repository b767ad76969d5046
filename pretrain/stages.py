"""The stages of a recipe in their order, as configurations: file -> **stage** -> trainer, and what it comes to.

A stage is data: everything that tells it from the one before stands in `configs/pretrain/`, and `pangu-rl pretrain`
runs any of them. Here is which follow each other, and the arithmetic of their tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pangu_rl.config.load import load_config
from pangu_rl.config.pretrain import PretrainConfig

HOME = Path("configs/pretrain")
RECIPES: dict[str, tuple[str, ...]] = {
    "openpangu": (
        "openpangu_align_connector",
        "openpangu_align_encoder",
        "openpangu_warmup",
        "openpangu_pretraining",
        "openpangu_annealing",
        "openpangu_sft",
    ),
    "mindvl": ("mindvl_warmup", "mindvl_multitask", "mindvl_sft_2k", "mindvl_sft_4k", "mindvl_sft_8k"),
}
"""Recipe -> its stages; those of MindVL's SFT stand beside each other and are merged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One column of a paper's table."""

    name: str
    config: PretrainConfig

    @property
    def tokens_per_step(self) -> int:
        """Capacity of the global batch."""
        return self.config.trainer.packs_per_step * self.config.learner.pack_tokens

    @property
    def rates(self) -> tuple[float, float]:
        """Of the language model (or of what is trained alone), at the start and at the end."""
        optimizer = self.config.learner.optimizer
        end = optimizer.lr if optimizer.schedule == "constant" else optimizer.lr * optimizer.min_lr_ratio
        return optimizer.lr, end


def load_recipe(name: str, home: Path = HOME) -> list[Stage]:
    """The stages of a recipe, in order.

    Raises:
        ConfigError: a file that is missing or unsound.
    """
    stages = RECIPES[name]
    return [Stage(name=stage, config=load_config(PretrainConfig, home / f"{stage}.yaml")) for stage in stages]
