"""The preference stage's own numbers. Defaults are those of MPO (arXiv 2411.10442) and InternVL's recipe for it."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator

from pangu_rl.config.base import Strict
from pangu_rl.config.sections.learner import LearnerConfig, TunedOptimizerConfig
from pangu_rl.config.sections.rows import TrainedRowsConfig
from pangu_rl.config.sections.trainer import TrainerConfig


class MpoAlgorithmConfig(Strict):
    beta: PositiveFloat = 0.1
    """How far a response's log-prob may leave the start model's: rewards are `beta` times the difference."""
    weights: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat] = (0.8, 0.2, 1.0)
    """Of the preference, quality and generation loss. [1, 0, 0] is plain DPO; openPangu-VL names the first and last."""

    @field_validator("weights")
    @classmethod
    def something_is_learned(cls, weights: tuple[float, float, float]) -> tuple[float, float, float]:
        if not any(weights):
            raise ValueError("algorithm.weights are all 0: nothing would be learned; plain DPO is [1, 0, 0]")
        return weights


class DpoDataConfig(TrainedRowsConfig):
    train: str
    """Rows with the prompt's `messages` (or `prompt`), the responses `chosen` and `rejected` as text, and optionally
    `id`, `images`, `videos`, `time_precise`, `source`, `tools`, `chosen_score`, `rejected_score`, and
    `rejected_ended`, false of one that was cut. Or rows of another `format`."""
    reasoning: Literal["keep", "strip"] = "keep"
    """Whether reasoning is compared, or taken off both responses and the turns before them."""
    sft: str | None = None
    """Rows of SFT that each step mixes in with the next-token loss; those that ask what a pair asks are left out. Of
    more than 16 MiB only those that are drawn are read."""
    sft_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of a step's samples that are SFT rows; a pair is one sample. It is also the weight of their loss."""
    media_root: str | None = None
    """Folder under which what rows name in `images` and `videos` lies; nothing outside it is ever read."""
    shuffle: bool = True
    on_bad_row: Literal["refuse", "skip"] = "refuse"
    max_tokens: PositiveInt = 2048
    """A pair whose prompt and longer response have more, or a longer SFT row, is a bad row; a picture counts with all
    its tokens (docs/models.md)."""
    reference: str | None = None
    """File of the start model's log-probs, made if it is not there; null is `reference.jsonl` in the run directory."""


class DpoLearnerConfig(LearnerConfig):
    optimizer: TunedOptimizerConfig = TunedOptimizerConfig()


class DpoTrainerConfig(TrainerConfig):
    pairs_per_step: PositiveInt = 256
