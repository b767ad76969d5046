"""What an evaluation on benchmarks reads, checked before anything is started: definitions, files, pictures, golds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pangu_rl.config.benchmark import BenchmarkConfig
from pangu_rl.config.evaluation import BenchmarkFileConfig, EvalConfig
from pangu_rl.config.load import load_config
from pangu_rl.config.paths import resolve_path
from pangu_rl.data.benchmarks.load import BenchmarkRows, load_benchmark
from pangu_rl.data.encoding import Encoder
from pangu_rl.data.pictures import Audit, PictureFolder
from pangu_rl.errors import ConfigError, RunError
from pangu_rl.loops.evaluation.eval_inputs import EvalInputs
from pangu_rl.loops.evaluation.option_letters import OptionLetters
from pangu_rl.loops.inputs.model import check_length, open_model
from pangu_rl.loops.inputs.problems import prompt_problem
from pangu_rl.loops.pictures import RowLoader
from pangu_rl.records import Prompt
from pretrain.processing.resize import PixelLimits
from rewards.metrics.gold_check import benchmark_problem

NAMED = 3
"""Rows that a message names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkSet:
    """One benchmark, ready to be asked."""

    name: str
    definition: BenchmarkConfig
    limits: PixelLimits | None
    """Of its pictures; None of one without."""
    rows: BenchmarkRows
    letters: OptionLetters | None
    """Of a benchmark that is answered by the likeliest letter."""

    @property
    def elsewhere(self) -> str:
        """What is said of rows that the figure is not of; nothing where there is none."""
        where = "; ".join(f"{name}: {', '.join(begin)}" for name, begin in self.definition.where.items())
        return f"{self.name}: {self.rows.elsewhere} rows are not of its figure ({where})" if self.rows.elsewhere else ""


def read_benchmarks(config: EvalConfig) -> tuple[list[BenchmarkSet], EvalInputs]:
    """The benchmarks in the configuration's order, and the same as an evaluation's inputs.

    Raises:
        UserError: a definition, a file or a model folder that cannot be used.
        RunError: too many rows of a benchmark cannot be asked; names them.
    """
    check_length(resolve_path(config.model.path), config.rollout.max_model_tokens, "rollout.max_model_tokens")
    encoder, folder = open_model(config.model, config.data, seed=None)
    sets = [_read(name, file, config, encoder, folder) for name, file in config.data.benchmarks.items()]
    _require_use_of_a_judge(config, sets)
    for one in sets:
        _require_enough(one, config.data.max_bad_share)
    audit = folder.audit(prompt for one in sets for prompt in one.rows.prompts)
    for one in sets:
        _leave_out(one, audit)
        _require_enough(one, config.data.max_bad_share)
    limits = _largest(one.limits for one in sets)
    inputs = EvalInputs(
        loader=RowLoader(encoder, folder, audit.digests),
        sets={one.name: one.rows.prompts for one in sets},
        skipped=[line for one in sets for line in one.rows.left_out],
        limits=limits,
    )
    return sets, inputs


def _read(
    name: str, file: BenchmarkFileConfig, config: EvalConfig, encoder: Encoder, folder: PictureFolder
) -> BenchmarkSet:
    definition = load_config(BenchmarkConfig, resolve_path(file.definition))
    limits = _limits(file, definition)
    if limits is not None:
        folder.limits = limits

    def problem(prompt: Prompt) -> str | None:
        too_long = prompt_problem(prompt, encoder, folder, config.data.max_prompt_tokens)
        return too_long or benchmark_problem(prompt)

    rows = load_benchmark(
        resolve_path(file.file),
        definition,
        media_root=folder.root,
        limit=config.data.limit,
        problem=problem,
        opened=encoder.template.opened,
    )
    letters = OptionLetters(encoder.template, name) if definition.likeliest_letter else None
    return BenchmarkSet(name=name, definition=definition, limits=limits, rows=rows, letters=letters)


def _require_use_of_a_judge(config: EvalConfig, sets: Sequence[BenchmarkSet]) -> None:
    if config.rewards.functions[0].name == "judged_benchmark" and not any(one.definition.judged for one in sets):
        raise ConfigError(
            f"rewards.functions names judged_benchmark, and of the benchmarks {', '.join(one.name for one in sets)} "
            "none is judged: set judged: true in a definition, or leave the function out"
        )


def _limits(file: BenchmarkFileConfig, definition: BenchmarkConfig) -> PixelLimits | None:
    return None if definition.min_pixels is None else PixelLimits.of(file) or PixelLimits.of(definition)


def _leave_out(one: BenchmarkSet, audit: Audit) -> None:
    """Rows with a picture that does not decode."""
    sound: list[Prompt] = []
    for prompt in one.rows.prompts:
        if (reason := audit.problem(prompt)) is None:
            sound.append(prompt)
        else:
            one.rows.left_out.append(f"{one.name}, row {prompt.uid}: {reason}")
    one.rows.prompts[:] = sound


def _require_enough(one: BenchmarkSet, max_share: float) -> None:
    bad, rows = len(one.rows.left_out), len(one.rows.left_out) + len(one.rows.prompts)
    if rows and one.rows.prompts and bad <= max_share * rows:
        return
    named = "; ".join(one.rows.left_out[:NAMED])
    raise RunError(
        f"benchmark {one.name}: {bad} of {rows} rows cannot be asked, above data.max_bad_share {max_share:g}: {named}"
        if rows
        else f"benchmark {one.name}: its file has no row of its figure{one.elsewhere and f'; {one.elsewhere}'}"
    )


def _largest(limits: Iterable[PixelLimits | None]) -> PixelLimits | None:
    known = [one for one in limits if one is not None]
    if not known:
        return None
    return PixelLimits(max(one.min_pixels for one in known), max(one.max_pixels for one in known))
