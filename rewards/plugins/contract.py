"""A reward plugin -> **findings**: does it keep the contract of `rewards/base.py`, also on what a model may write?

Every call runs in a killable child with a deadline, so that a plugin that hangs, eats memory or ends its process is a
finding and not the end of the check. The second pass runs in a fresh process: what differs there is no function of the
completion.
"""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pangu_rl.config.sections.rewards import RewardFunctionConfig
from pangu_rl.errors import ConfigError, RewardError
from pangu_rl.monitoring.findings import Finding, Status
from pangu_rl.records import Completion, Outcome, Part, Prompt
from rewards.children import ChildError, ChildKilled, ChildPool, ChildTimeout
from rewards.isolated import IMPORT_S, MEMORY_MIB, call_plugin, import_plugin, nothing
from rewards.plugins.samples import SAMPLES, samples_of
from rewards.registry import ENTRY_POINT_GROUP
from rewards.rubric import checked_part

DEADLINE_S = 10.0
_UNCALLABLE = "cannot be called as"
_MEND_RESULT = "return a finite number or a Part; value None goes with no verdict alone"
_MEND_BOUNDS = "bound what a call may take, whatever the text; isolated: true contains it"
_MEND_RAISED = "raise only for a failure of your own; no verdict is a Part with value None, or TimeoutError"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What became of one call."""

    part: Part | None = None
    problem: str = ""
    mend: str = ""
    touched: bool = False
    """The plugin changed the prompt that it was given."""
    seconds: float = 0.0

    @property
    def said(self) -> tuple[Any, ...]:
        """What must be the same for the same completion; the detail may name a time."""
        return (self.part.value, self.part.outcome) if self.part else (self.problem,)


def plugin_names(target: str) -> list[str]:
    """The reward functions that `target` means: itself, or those in the `pyproject.toml` of a package's folder.

    Raises:
        ConfigError: a folder that declares none.
    """
    folder = Path(target)
    if not folder.is_dir():
        return [target]
    project = folder / "pyproject.toml"
    if not project.is_file():
        raise ConfigError(f"{folder}: no pyproject.toml in it; name a package's folder or path/to/file.py:function")
    try:
        tree = tomllib.loads(project.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{project}: not TOML: {error}") from None
    declared = tree.get("project", {}).get("entry-points", {}).get(ENTRY_POINT_GROUP, {})
    if not declared:
        raise ConfigError(f'{project}: declares no reward: add [project.entry-points."{ENTRY_POINT_GROUP}"]')
    return [_in_file(folder, value) for value in declared.values()]


def check_plugin(
    name: str,
    args: dict[str, Any] | None = None,
    prompts: Sequence[Prompt] = (),
    deadline_s: float = DEADLINE_S,
) -> list[Finding]:
    """Run the contract test over one reward function; `prompts` are rows of its own kind, by default a sum.

    Returns what was found, in order; a plugin that cannot be imported or called has no further findings.
    """
    config = RewardFunctionConfig(name=name, args=args or {})
    with _pool() as pool:
        problem = _import_problem(pool, config)
        if problem is not None:
            return _unusable(problem)
        samples = samples_of(prompts)
        answers = {kind: _calls(pool, config, pairs, deadline_s) for kind, pairs in samples.items()}
        again = {"correct": _calls(pool, config, samples["correct"], deadline_s)}
        _calls(pool, config, samples["very long"], answers["very long"][0].seconds / 2)  # to be killed in its middle
        after_kill = _calls(pool, config, samples["correct"], deadline_s)
    fresh: dict[str, list[_Answer]] = {}
    if not any(answer.problem for found in answers.values() for answer in found):
        with _pool() as pool:
            fresh = {kind: _calls(pool, config, samples[kind], deadline_s) for kind in ("correct", "incorrect")}
    return [
        *_usable(config),
        *(_judged(kind, SAMPLES[kind], answers[kind]) for kind in samples),
        _deterministic(answers, again, fresh),
        _survives(answers["correct"], after_kill),
        _leaves_input(answers),
    ]


def _import_problem(pool: ChildPool, config: RewardFunctionConfig) -> str | None:
    try:
        pool.run(import_plugin, config, deadline_s=IMPORT_S)
    except ChildError as error:
        return error.text.removeprefix("rewards: ") if error.kind == "ConfigError" else str(error)
    except (ChildTimeout, ChildKilled) as error:
        return f"its import did not survive: {error}"
    return None


def _pool() -> ChildPool:
    return ChildPool(size=1, memory_mib=MEMORY_MIB, warm_up=nothing)


def _usable(config: RewardFunctionConfig) -> list[Finding]:
    given = "".join(f", {name}={value!r:.40}" for name, value in config.args.items())
    return [
        Finding(check="importable", status="ok", detail="in a child process without API keys"),
        Finding(check="signature", status="ok", detail=f"(prompt, completion{given})"),
    ]


def _unusable(problem: str) -> list[Finding]:
    if _UNCALLABLE in problem:
        mend = "take (prompt, completion) first and give every further parameter a default, or pass it as key=value"
        return [Finding(check="signature", status="fail", detail=problem, mend=mend)]
    mend = "mend the import; install a package of several modules (pip install -e .) and check it by its name"
    return [Finding(check="importable", status="fail", detail=problem, mend=mend)]


def _in_file(folder: Path, value: str) -> str:
    """`module:function` of an entry point -> `file.py:function`, so that a package need not be installed."""
    module, _, function = value.partition(":")
    parts = module.strip().split(".")
    for root in (folder / "src", folder):
        for file in (root.joinpath(*parts, "__init__.py"), root.joinpath(*parts).with_suffix(".py")):
            if file.is_file():
                return f"{file}:{function.strip()}"
    raise ConfigError(f"{folder}/pyproject.toml: entry point {value}: no module {module} in {folder}/src or {folder}")


def call_once(config: RewardFunctionConfig, prompt: Prompt, completion: Completion) -> dict[str, Any]:
    """In a child: the plugin's result, and whether it changed its input."""
    before = copy.deepcopy(prompt)
    result = call_plugin(config, prompt, completion)
    return {"result": result, "touched": prompt != before}


def _calls(
    pool: ChildPool, config: RewardFunctionConfig, pairs: Sequence[tuple[Prompt, Completion]], deadline_s: float
) -> list[_Answer]:
    return [_call(pool, config, pair, deadline_s) for pair in pairs]


def _call(pool: ChildPool, config: RewardFunctionConfig, pair: tuple[Prompt, Completion], deadline_s: float) -> _Answer:
    try:
        task = pool.submit(call_once, config, *pair, deadline_s=deadline_s)
        reply = task.future.result()
        return _Answer(part=checked_part(reply["result"], "it"), touched=reply["touched"], seconds=task.seconds)
    except ChildError as error:
        if error.kind == "TimeoutError":  # its way to say that there is no verdict
            return _Answer(part=Part.no_verdict(Outcome.TIMEOUT, error.text))
        return _Answer(problem=f"raised {error}", mend=_MEND_RAISED)
    except RewardError as error:
        return _Answer(problem=str(error), mend=_MEND_RESULT)
    except (ChildTimeout, ChildKilled) as error:
        return _Answer(problem=str(error), mend=_MEND_BOUNDS)


def _judged(kind: str, what: str, answers: Sequence[_Answer]) -> Finding:
    failed = next((answer for answer in answers if answer.problem), None)
    if failed is not None:
        return Finding(check=kind, status="fail", detail=f"{what}: {failed.problem}", mend=failed.mend)
    parts = [answer.part for answer in answers if answer.part]
    silent = [part for part in parts if part.value is None]
    said = ", ".join(dict.fromkeys(_spoken((p.value, p.outcome)) for p in parts))
    if silent:
        mend = "fine for a service that is down; else such rows will be masked and may stop a run"
        detail = f"{what}: {said} ({silent[0].outcome}: {silent[0].detail[:120]})"
        return Finding(check=kind, status="warn", detail=detail, mend=mend)
    return Finding(check=kind, status="ok", detail=f"{what}: {said}")


def _deterministic(
    answers: dict[str, list[_Answer]], again: dict[str, list[_Answer]], fresh: dict[str, list[_Answer]]
) -> Finding:
    for repeated, where in ((again, "in the same process"), (fresh, "in a fresh process")):
        for kind, later in repeated.items():
            for one, other in zip(answers[kind], later, strict=True):
                if one.said != other.said:
                    detail = f"{kind} answer: {_spoken(one.said)}, then {_spoken(other.said)} {where}"
                    mend = "let the value depend on prompt and completion alone: seed what draws, keep no state"
                    return Finding(check="deterministic", status="fail", detail=detail, mend=mend)
    return Finding(
        check="deterministic", status="ok", detail=f"the same twice{', and in a fresh process' if fresh else ''}"
    )


def _survives(before: Sequence[_Answer], after: Sequence[_Answer]) -> Finding:
    for one, other in zip(before, after, strict=True):
        if one.said != other.said:
            detail = f"{_spoken(one.said)}, and {_spoken(other.said)} after a call was killed at its deadline"
            mend = "leave no lock or half-written file behind: a child may be killed at any point"
            return Finding(check="deadline", status="fail", detail=detail, mend=mend)
    return Finding(check="deadline", status="ok", detail="killed at a deadline in a child, the next call is right")


def _leaves_input(answers: dict[str, list[_Answer]]) -> Finding:
    status: Status = "fail" if any(answer.touched for found in answers.values() for answer in found) else "ok"
    if status == "fail":
        mend = "copy before you change: the other rewards and the store see the same prompt"
        return Finding(check="input", status=status, detail="changes the prompt that it is given", mend=mend)
    return Finding(check="input", status=status, detail="prompt left as it was")


def _spoken(said: tuple[Any, ...]) -> str:
    shown = ("no verdict" if item is None else f"{item + 0.0:g}" if isinstance(item, float) else item for item in said)
    return " ".join(map(str, shown))
