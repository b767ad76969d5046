"""Filters -> **the table `kept`**: one narrow row per stored row that all of them let through, and counts of each.

    rows       rows of the chosen steps, each with its keys and one flag per filter
    prompts    per prompt: responses, verdicts, correct ones, and their share, the pass rate
    kept       rows with all flags true

A prompt is its uid, text, answer and pictures together, since two prompt sets may use one uid for different things.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from pangu_rl.config.export import ExportConfig, Range, Threshold
from pangu_rl.errors import ConfigError, DataError
from pangu_rl.records import Outcome
from rollout.export.catalogue import EXTRA_COLUMNS, Catalogue, literal
from rollout.export.grades import Grades, read_grades
from rollout.export.where import checked_where, first_line, nearest
from rollout.schema import SCHEMA

_VERDICTS = ", ".join(literal(outcome.value) for outcome in Outcome if outcome.is_verdict)
_PROMPT_KEY = """
    hash(
        prompt_uid, messages, gold, list_transform(images, lambda image: coalesce(image.sha256, image.path)),
        list_transform(videos, lambda video: video.sha256)
    )
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the filters left, as counts; the rows themselves are the table `kept`."""

    counts: dict[str, int]
    """Filter -> rows left after it and all before it, in order; the first is `stored`."""
    grades: Grades

    @property
    def rows(self) -> int:
        return list(self.counts.values())[-1]


def apply_filters(catalogue: Catalogue, config: ExportConfig) -> Kept:
    """Make the tables `rows`, `prompts` and `kept`.

    Raises:
        ConfigError: a filter that names no part or column.
        DataError: no row is left; the message has the filter that took the last.
    """
    conditions = _conditions(catalogue, config)
    scope = _within("step", config.steps)
    if not catalogue.one(f"SELECT count(*) FROM rollouts WHERE {scope}")[0]:
        first, last = catalogue.one("SELECT min(step), max(step) FROM rollouts")
        raise DataError(f"--steps {config.steps}: no rollouts there; the runs have steps {first} to {last}")
    grades = read_grades(catalogue, scope)
    flags = "".join(f", coalesce({condition}, false) AS flag_{n}" for n, condition in enumerate(conditions.values()))
    query = f"""
        CREATE TABLE rows AS
        SELECT position, {_PROMPT_KEY} AS prompt_key, hash(run, step, "group") AS group_key,
            outcome = 'correct' AS correct, outcome IN ({_VERDICTS}) AS verdict, finish_reason = 'stop' AS whole,
            {grades.expression} AS grade {flags}
        FROM rollouts WHERE {scope}
    """
    try:
        catalogue.connection.execute(query)
    except (duckdb.ConversionException, duckdb.OutOfRangeException) as error:  # only the user's own expression converts
        raise ConfigError(f"--where {config.where!r}: {first_line(error)}") from None
    catalogue.connection.execute("""
        CREATE TABLE prompts AS
        SELECT prompt_key, count(*) AS samples, count(*) FILTER (verdict) AS verdicts,
            count(*) FILTER (correct) AS n_correct, n_correct / nullif(verdicts, 0) AS pass_rate
        FROM rows GROUP BY prompt_key
    """)
    names = {f"flag_{n}": name for n, name in enumerate(conditions)}
    if config.pass_rate is not None:
        names[f"coalesce({_within('pass_rate', config.pass_rate)}, false)"] = f"pass_rate {config.pass_rate}"
    return Kept(counts=_keep(catalogue, config, names), grades=grades)


def _keep(catalogue: Catalogue, config: ExportConfig, names: dict[str, str]) -> dict[str, int]:
    """Fill `kept`; `names` are SQL flags with what the user calls them."""
    flags = list(names)
    sums = [f"count(*) FILTER ({' AND '.join(flags[: n + 1])})" for n in range(len(flags))]
    joined = "FROM rows JOIN (SELECT prompt_key, pass_rate FROM prompts) USING (prompt_key)"
    found = catalogue.one(f"SELECT {', '.join(['count(*)', *sums])} {joined}")
    scope = {} if config.steps is None else {f"steps {config.steps}": found[0]}
    counts = {"stored": catalogue.rows, **scope, **dict(zip(names.values(), found[1:]))}
    before = found[0]
    for name, left in zip(names.values(), found[1:]):
        if not left:
            raise DataError(f"nothing to export: {name} leaves none of {before} rows; --stats shows what there is")
        before = left
    catalogue.connection.execute(f"""
        CREATE TABLE kept AS
        SELECT position, prompt_key, prompt_key AS scope, group_key, verdict, correct, whole, grade
        {joined} WHERE {" AND ".join(flags) or "true"}
    """)
    return counts


def _conditions(catalogue: Catalogue, config: ExportConfig) -> dict[str, str]:
    """What the user calls each filter -> its SQL condition, cheap ones first."""
    found = {}
    outcomes = config.outcome
    if config.to == "sft" and not config.outcome and not config.score:
        outcomes = (Outcome.CORRECT,)
    if outcomes:
        found[f"outcome {' or '.join(outcomes)}"] = f"outcome IN ({', '.join(map(literal, outcomes))})"
    for threshold in config.score:
        found[f"score {threshold}"] = _bound(catalogue, threshold)
    if config.finish:
        found[f"finish {' or '.join(config.finish)}"] = f"finish_reason IN ({', '.join(map(literal, config.finish))})"
    if config.min_tokens is not None:
        found[f"min_tokens {config.min_tokens}"] = f"response_tokens >= {config.min_tokens}"
    if config.max_tokens is not None:
        found[f"max_tokens {config.max_tokens}"] = f"response_tokens <= {config.max_tokens}"
    if config.to == "prompts":
        found["prompt has an answer"] = "regexp_matches(gold, '\\S')"
    if config.to in ("sft", "pairs", "iterative"):
        found["response has text"] = "regexp_matches(text, '\\S')"
    if config.where is not None:
        columns = [*SCHEMA.names, *EXTRA_COLUMNS]
        found[f"where {config.where}"] = f"({checked_where(catalogue.connection, config.where, columns)})"
    return found


def _bound(catalogue: Catalogue, threshold: Threshold) -> str:
    known = ("reward", *catalogue.parts)
    if threshold.part not in known:
        raise ConfigError(f"--score {threshold}: no reward part {threshold.part!r}: {nearest(threshold.part, known)}")
    value = "reward" if threshold.part == "reward" else f"score[{literal(threshold.part)}]"
    return f"{value} {threshold.sign} {threshold.value!r}"


def _within(value: str, bounds: Range | None) -> str:
    if bounds is None:
        return "true"
    ends = (("<=", bounds.low), (">=", bounds.high))
    return " AND ".join(f"{end!r} {sign} {value}" for sign, end in ends if end is not None) or "true"
