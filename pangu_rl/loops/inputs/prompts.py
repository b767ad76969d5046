"""The prompts of GRPO, read and checked before anything is started or written: rows, pictures, golds, rewards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pangu_rl.config.paths import resolve_path
from pangu_rl.config.stages import GrpoConfig
from pangu_rl.data.files.rows import Loaded
from pangu_rl.data.formats.reading import Reading
from pangu_rl.data.prompts import load_prompts
from pangu_rl.loops.inputs.model import check_length, open_model
from pangu_rl.loops.inputs.problems import prompt_problem, with_sound_pictures
from pangu_rl.loops.mixture import mixture, shared
from pangu_rl.loops.pictures import RowLoader
from pangu_rl.records import Prompt
from rewards.audit import gold_problem
from rewards.rubric import Rubric


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpoInputs:
    """The prompts of a run."""

    loader: RowLoader
    train: list[Prompt]
    heldout: list[Prompt]
    skipped: list[str]
    """A line (file, row, reason) for each row left out."""

    def both(self) -> int:
        """Held-out prompts that are trained on too, word for word: their accuracy says nothing of others."""
        if not self.heldout:
            return 0
        trained = set(map(_asked, self.train))
        return sum(_asked(prompt) in trained for prompt in self.heldout)


def held_out_and_trained(both: int, held_out: int) -> str:
    """The warning of so many prompts."""
    return (
        f"{both} of {held_out} held-out prompts are trained on too: what is measured on them says nothing of others; "
        "take them out of data.train or data.heldout"
    )


def read_grpo_inputs(config: GrpoConfig) -> GrpoInputs:
    """Read and audit the prompts; every gold must be graded correct by the first reward function.

    Raises:
        UserError: a file, a row, a picture, a model folder or a reward function that cannot be used.
    """
    check_length(resolve_path(config.model.path), config.rollout.max_model_tokens, "rollout.max_model_tokens")
    encoder, folder = open_model(config.model, config.data, config.trainer.seed)
    grade = Rubric.from_config(config.rewards).functions[0].call

    def problem(prompt: Prompt) -> str | None:
        too_long = prompt_problem(prompt, encoder, folder, config.data.max_prompt_tokens)
        return too_long or gold_problem(prompt, grade)

    reading = Reading.of(config.data, encoder.template.opened)

    def load(path: str) -> Loaded[Prompt]:
        return load_prompts(resolve_path(path), on_bad_row=config.data.on_bad_row, check=problem, reading=reading)

    loaded = [mixture(config.data, load), *([load(config.data.heldout)] if config.data.heldout else [])]
    (train, *rest), loader = with_sound_pictures(loaded, encoder, folder)
    train = shared(train, config.data, {}, loader)
    return GrpoInputs(
        loader=loader,
        train=train.records,
        heldout=rest[0].records[: config.data.heldout_limit] if rest else [],
        skipped=[line for part in (train, *rest) for line in part.skipped],
    )


def _asked(prompt: Prompt) -> tuple[Any, ...]:
    return repr(prompt.messages), prompt.images, prompt.videos
