"""The queries of a sampling stage, checked before anything is started: rows, pictures, references, model, scorers."""

from __future__ import annotations

from dataclasses import dataclass

from pangu_rl.config.paths import resolve_path
from pangu_rl.config.sampling import IterativeConfig, SampledStage, ScoredStage
from pangu_rl.data.files.rows import evenly
from pangu_rl.data.formats.reading import Reading
from pangu_rl.data.prompts import load_prompts
from pangu_rl.data.queries import load_queries
from pangu_rl.errors import ConfigError
from pangu_rl.loops.inputs.model import check_length, open_model
from pangu_rl.loops.inputs.problems import prompt_problem, with_sound_pictures
from pangu_rl.loops.pictures import RowLoader
from pangu_rl.records import Prompt
from rewards.audit import gold_part, gold_problem
from rewards.base import RewardFunction
from rewards.rubric import Rubric
from rewards.rules.boxed_answer import extract_boxed

LLM_SCORERS = ("llm_score",)
"""Reward functions that are asked about completions only: a reference is no question to them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    loader: RowLoader
    rows: list[Prompt]
    heldout: list[Prompt]
    """Of iterative fine-tuning, all of them."""
    skipped: list[str]
    """A line (file, row, reason) for each row left out."""


def read_queries(config: SampledStage) -> Queries:
    """Read the queries and, where there are any, the held-out prompts.

    Every reference must be graded correct by the first reward function, unless that is an LLM scorer.

    Raises:
        UserError: a file, a row, a picture, a model folder or a reward function that cannot be used.
    """
    data = config.data
    check_length(resolve_path(config.model.path), config.rollout.max_model_tokens, "rollout.max_model_tokens")
    encoder, folder = open_model(config.model, data, config.trainer.seed)
    function = Rubric.from_config(config.rewards).functions[0]
    grade = None if function.name in LLM_SCORERS else function.call

    def problem(prompt: Prompt) -> str | None:
        too_long = prompt_problem(prompt, encoder, folder, data.max_prompt_tokens)
        if too_long is not None or grade is None:
            return too_long
        return gold_problem(prompt, grade)

    how = {"on_bad_row": data.on_bad_row, "reading": Reading.of(data, encoder.template.opened)}
    queries = resolve_path(data.queries)
    loaded = [load_queries(queries, read_answer=extract_boxed, check=problem, limit=data.limit, **how)]
    if isinstance(config, IterativeConfig) and config.data.heldout:
        loaded.append(load_prompts(resolve_path(config.data.heldout), check=problem, **how))
    (queries, *rest), loader = with_sound_pictures(loaded, encoder, folder)
    if isinstance(config, ScoredStage) and grade is not None:
        _require_scale(queries.records[0], grade, function.name)
    return Queries(
        loader=loader,
        rows=evenly(queries.records, data.limit),
        heldout=rest[0].records if rest else [],
        skipped=[line for part in (queries, *rest) for line in part.skipped],
    )


def _require_scale(prompt: Prompt, grade: RewardFunction, name: str) -> None:
    """Refuse a function of right and wrong where scores from 1 to 5 are selected by."""
    value = gold_part(prompt, grade).value
    if value != 5.0:
        raise ConfigError(
            f"rewards: {name} gives {value} to the right answer of {prompt.uid}, and this stage selects by scores from "
            "1 to 5: use graded, llm_score, or a function of that scale"
        )
