"""MindVL's test-time resolution search: one engine, a grid of picture sizes -> **accuracy at each pair, and the best**.

    pair of limits -> pictures cut to it -> greedy answers -> graded -> cells/<min>_<max>.json
                                                                    '-> resolutions.json, a table, resolutions.png

The driver cuts the pictures, so an engine that was started once serves every pair, and a pair under which every picture
has the size that it has under an earlier one takes that one's verdicts over. A cell is a file that appears when it is
whole: the same command goes on with those that are missing, and starts no engine if none is.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pangu_rl.checkpoint.model_folder import model_checksum
from pangu_rl.checkpoint.settings import write_whole
from pangu_rl.config.evaluation import EvalConfig
from pangu_rl.config.paths import resolve_path
from pangu_rl.data.stream import fingerprint
from pangu_rl.errors import ConfigError
from pangu_rl.loops.actors.engines import Engines
from pangu_rl.loops.evaluate import evaluate, greedy, write_evaluations
from pangu_rl.loops.evaluation.eval_inputs import EvalInputs
from pangu_rl.loops.evaluation.open_evaluation import open_evaluation
from pangu_rl.loops.free_keys import OPERATIONAL
from pangu_rl.loops.session import Run
from pangu_rl.monitoring.accuracy_figures import figures
from pangu_rl.monitoring.resolution_map import Cell, best_cell, best_text, draw_map, resolution_table
from pangu_rl.records import Evaluation
from pretrain.processing.pictures import picture_size
from pretrain.processing.resize import PixelLimits

log = logging.getLogger(__name__)
CELLS, RESULT, PICTURE = "cells", "resolutions.json", "resolutions.png"
OPTIMISTIC = (
    "the pair was chosen on the rows that it is reported on, so its accuracy is optimistic: name a set that chooses in "
    "resolutions.choose_on, and read the others"
)
Shown = tuple[tuple[int, int, int], ...]
"""Grid (t, h, w) in patches of every picture of the sets, in order."""


def search_resolutions(config: EvalConfig, inputs: EvalInputs) -> dict[str, Any]:
    """Evaluate every pair; returns what `resolutions.json` holds: `cells`, each with its limits, mean tokens of a
    picture and figures per set, the `best` of them, what it was `chosen_on`, and a `warning` if that was all. The best
    one's verdicts become `evaluations.json`.

    Raises:
        ConfigError: no row has a picture, or the run directory was begun with other settings, rows or weights.
        UserError, RunError: see `pangu_rl.errors`. Preempted: SIGTERM came; whole cells are kept.
    """
    grid = config.resolutions
    assert grid is not None
    pairs = [PixelLimits(*pair) for pair in itertools.product(grid.min_pixels, grid.max_pixels)]
    shown = _sizes_shown(inputs, pairs)
    settings = _settings(config, inputs, model_checksum(resolve_path(config.model.path)))
    cells: list[Cell] = []
    with open_evaluation(config, inputs, "resolution search", len(pairs), settings) as (run, engines):
        search = _Search(config, inputs, run, engines)
        for step, limits in enumerate(pairs, start=1):
            cells.append(search.cell(step, limits, shown[limits]))
            if step < len(pairs):
                run.raise_if_preempted(step)
        best = best_cell(cells, grid.choose_on)
        result = {
            "cells": [_figures(cell) for cell in cells],
            "best": _figures(best),
            "chosen_on": grid.choose_on or "all sets",
            "warning": OPTIMISTIC if grid.choose_on is None or len(inputs.sets) == 1 else "",
        }
        write_whole(run.dir / RESULT, json.dumps(result, indent=1) + "\n")
        write_evaluations(run.dir, best.evaluations)
        draw_map(run.dir / PICTURE, cells, best, grid.choose_on)
        run.say(resolution_table(cells, best, grid.choose_on))
        run.say(best_text(best, grid.choose_on))
        if result["warning"]:
            run.say(result["warning"])
    return result


@dataclass(slots=True)
class _Search:
    """The cells of one run directory."""

    config: EvalConfig
    inputs: EvalInputs
    run: Run
    engines: Engines
    _done: dict[Shown, Cell] = dataclasses.field(default_factory=dict)
    _started: bool = False

    def cell(self, step: int, limits: PixelLimits, shown: Shown) -> Cell:
        """Read if it is there, taken over from an equal one, or evaluated."""
        path = self.run.dir / CELLS / f"{limits.min_pixels}_{limits.max_pixels}.json"
        if path.is_file():
            cell = Cell.from_json(json.loads(path.read_text(encoding="utf-8")))
        elif (equal := self._done.get(shown)) is not None:
            cell = dataclasses.replace(equal, min_pixels=limits.min_pixels, max_pixels=limits.max_pixels)
        else:
            tokens = [t * h * w // 4 for t, h, w in shown]
            evaluations = self._evaluated(step, limits)
            cell = Cell(limits.min_pixels, limits.max_pixels, sum(tokens) / len(tokens), evaluations)
            right = sum(sum(one.correct.values()) for one in evaluations)
            self.run.log(step, {"heldout/accuracy": right / sum(len(one.correct) for one in evaluations)})
        if not path.is_file():
            path.parent.mkdir(exist_ok=True)
            write_whole(path, json.dumps(cell.as_json()))
        self._done.setdefault(shown, cell)
        return cell

    def _evaluated(self, step: int, limits: PixelLimits) -> tuple[Evaluation, ...]:
        if not self._started:
            self.run.watchdog.processes = self.engines.processes
            self.engines.pool.start()
            self._started = True
        self.inputs.loader.folder.limits = limits
        with self.run.phase("evaluate", waiting=self.engines.waiting):
            return tuple(
                evaluate(
                    name,
                    step,
                    prompts,
                    loader=self.inputs.loader,
                    pool=self.engines.pool,
                    rewards=self.engines.rewards,
                    sampling=greedy(self.config.rollout.max_new_tokens, self.config.stop),
                )
                for name, prompts in self.inputs.sets.items()
            )


def _sizes_shown(inputs: EvalInputs, pairs: Sequence[PixelLimits]) -> dict[PixelLimits, Shown]:
    """What each pair makes of the pictures, by their headers."""
    root = inputs.loader.folder.root
    paths = [path for prompts in inputs.sets.values() for prompt in prompts for path in prompt.images]
    if not paths or root is None:
        raise ConfigError("resolutions is set and no row of data.sets has a picture: there is nothing to search")
    sizes = {path: picture_size(path, root) for path in dict.fromkeys(paths)}
    grid = inputs.loader.folder.family.grid
    return {
        limits: tuple(grid(height, width, limits) for width, height in map(sizes.__getitem__, paths))
        for limits in pairs
    }


def _settings(config: EvalConfig, inputs: EvalInputs, checksum: str) -> dict[str, Any]:
    """What decides a cell beside its limits."""
    digests = inputs.loader.digests
    return {
        "model": {"weights": checksum, **config.model.model_dump(mode="json", exclude={"path"})},
        "data": {name: fingerprint(prompts, digests) for name, prompts in inputs.sets.items()},
        **config.model_dump(mode="json", include={"rollout", "rewards", "stop"}, exclude=OPERATIONAL),
        "trainer": {"seed": config.trainer.seed},
    }


def _figures(cell: Cell) -> dict[str, Any]:
    return {
        "min_pixels": cell.min_pixels,
        "max_pixels": cell.max_pixels,
        "picture_tokens": round(cell.picture_tokens, 2),
        "sets": {evaluation.name: figures(evaluation) for evaluation in cell.evaluations},
    }
