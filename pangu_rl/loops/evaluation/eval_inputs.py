"""What an evaluation reads, checked before anything is started: sets of prompts, their pictures, how they are asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pangu_rl.config.evaluation import EvalConfig
from pangu_rl.config.load import load_config
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.sections.question_prompts import QuestionPromptsConfig
from pangu_rl.data.formats.reading import Reading
from pangu_rl.data.prompts import load_prompts
from pangu_rl.data.question_prompts import asked
from pangu_rl.errors import ConfigError
from pangu_rl.loops.inputs.model import check_length, open_model
from pangu_rl.loops.inputs.problems import prompt_problem, with_sound_pictures
from pangu_rl.loops.pictures import RowLoader
from pangu_rl.records import Prompt
from pretrain.processing.resize import PixelLimits
from rewards.audit import gold_problem
from rewards.rubric import Rubric


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalInputs:
    """What is asked, by the set's name."""

    loader: RowLoader
    """Shows pictures at the largest sizes that the evaluation has."""
    sets: dict[str, list[Prompt]]
    skipped: list[str]
    """A line (file, row, reason) for each row left out."""
    limits: PixelLimits | None
    """Under which a picture has the most tokens; None are those of the model folder's processor."""
    asked: str = ""
    """A line on how many rows `data.prompts` asks, and which categories it leaves as they are."""


def read_eval_inputs(config: EvalConfig) -> EvalInputs:
    """Read the sets; every gold must be graded correct by the first reward function.

    Raises:
        UserError: a file, a row, a picture, a model folder, a reward function or a table of prompts that is unusable.
    """
    data = config.data
    check_length(resolve_path(config.model.path), config.rollout.max_model_tokens, "rollout.max_model_tokens")
    encoder, folder = open_model(config.model, data, seed=None)
    if (limits := _largest_limits(config)) is not None:
        folder.limits = limits
    grade = Rubric.from_config(config.rewards).functions[0].call
    prompts = load_config(QuestionPromptsConfig, resolve_path(data.prompts)) if data.prompts else None

    def as_asked(prompt: Prompt) -> Prompt:
        return prompt if prompts is None else asked(prompt, prompts)

    def problem(prompt: Prompt) -> str | None:
        return prompt_problem(as_asked(prompt), encoder, folder, data.max_prompt_tokens) or gold_problem(prompt, grade)

    reading = Reading.of(data, encoder.template.opened)
    loaded = [
        load_prompts(resolve_path(path), on_bad_row=data.on_bad_row, check=problem, reading=reading)
        for path in data.sets.values()
    ]
    sound, loader = with_sound_pictures(loaded, encoder, folder)
    rows = {name: part.records[: data.limit] for name, part in zip(data.sets, sound, strict=True)}
    return EvalInputs(
        loader=loader,
        sets={name: [as_asked(prompt) for prompt in prompts_of] for name, prompts_of in rows.items()},
        skipped=[line for part in sound for line in part.skipped],
        limits=limits,
        asked="" if prompts is None else _how_asked(Path(data.prompts or ""), prompts, rows),
    )


def _largest_limits(config: EvalConfig) -> PixelLimits | None:
    if (grid := config.resolutions) is not None:
        return PixelLimits(max(grid.min_pixels), max(grid.max_pixels))
    return PixelLimits.of(config.data)


def _how_asked(path: Path, prompts: QuestionPromptsConfig, sets: dict[str, list[Prompt]]) -> str:
    rows = [prompt for some in sets.values() for prompt in some]
    plain = Counter(row.source for row in rows if prompts.template(row.source, row.answer_type) is None)
    if plain.total() == len(rows):
        raise ConfigError(
            f"data.prompts {path} has the categories {', '.join(prompts.categories)}, the rows' sources are "
            f"{', '.join(sorted(plain))}: it asks none of them"
        )
    rest = f"; as they stand: {', '.join(f'{n} of {name}' for name, n in sorted(plain.items()))}" if plain else ""
    return f"{path.name} asks {len(rows) - plain.total()} of {len(rows)} rows{rest}"
