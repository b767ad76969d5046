"""`STAGE --dry-run`: a stage's configuration -> **what would run**: rows, steps, memory, files; nothing is started."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pangu_rl.accelerators import get_accelerator
from pangu_rl.accelerators.host_memory import host_memory
from pangu_rl.checkpoint.disk import require_run_directory
from pangu_rl.checkpoint.store import CheckpointStore
from pangu_rl.cluster.demand import phases_of
from pangu_rl.config.doubts import doubts
from pangu_rl.doctor.paths import GIB, check_disk
from pangu_rl.learner.measure.stage_memory import memory_of, weights_gib
from pangu_rl.monitoring.findings import Finding

PER_STEP = ("prompts_per_step", "sequences_per_step", "pairs_per_step", "packs_per_step")
"""What a step takes, by stage."""


def dry_run(stage: str, config: Any) -> dict[str, Any]:
    """What is read is read and checked as the run would.

    Raises:
        UserError: what the run would be refused for before anything starts.
    """
    require_run_directory(Path(config.trainer.run_dir))
    rows, [disk] = _ROWS[stage](config), list(check_disk(config))
    return {
        "stage": stage,
        "rows": rows,
        "steps": _steps(stage, config),
        "memory": _memory(stage, config),
        "files": _files(config, disk.detail),
        "warnings": list(_warnings(config, rows, disk)),
    }


def shown(found: dict[str, Any]) -> Iterator[str]:
    """The lines for a person."""
    rows, steps, memory = found["rows"], found["steps"], found["memory"]
    yield f"dry run of {found['stage']}: nothing was started"
    yield "rows    " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in rows.items())
    yield "steps   " + _steps_text(steps, rows["train"])
    for phase in memory["phases"]:
        actors = ", ".join(
            f"{one['count']} x {one['role']}" + (f" of {one['gib']:.1f} GiB" if one["gib"] else "")
            for one in phase["actors"]
        )
        yield f"memory  {phase['name']}: {actors}"
    yield f"        {memory['device']}; {memory['free_gib']:.1f} GiB of this machine's memory are free"
    yield f"files   {found['files']['run_dir']}: {found['files']['holds']}"
    yield f"        {found['files']['room']}"
    yield from (f"warning {line}" for line in found["warnings"])


def _grpo_rows(config: Any) -> dict[str, int]:
    from pangu_rl.loops.inputs.prompts import read_grpo_inputs

    inputs = read_grpo_inputs(config)
    rows = {"train": len(inputs.train), "held_out": len(inputs.heldout), "left_out": len(inputs.skipped)}
    return rows | ({"held_out_and_trained": both} if (both := inputs.both()) else {})


def _sft_rows(config: Any) -> dict[str, int]:
    from pangu_rl.loops.inputs.conversations import read_sft_inputs

    rows = read_sft_inputs(config).train
    return {"train": len(rows), "left_out": rows.left_out}


def _dpo_rows(config: Any) -> dict[str, int]:
    from pangu_rl.loops.inputs.pairs import read_dpo_inputs

    inputs = read_dpo_inputs(config)
    mixed = {} if inputs.sft is None else {"sft": len(inputs.sft)}
    return {"train": len(inputs.train), **mixed, "left_out": inputs.left_out}


def _pretrain_rows(config: Any) -> dict[str, int]:
    from pretrain.train.run import open_stage

    files = open_stage(config)[0].files
    return {"train": len(files), "left_out": len(files.skipped)}


def _vit_rows(config: Any) -> dict[str, int]:
    from pangu_rl.checkpoint.model_folder import model_config
    from pangu_rl.config.paths import resolve_path
    from pretrain.train.vision.pictures_of_rows import open_picture_rows

    model_config(resolve_path(config.model.path))
    return {"train": len(open_picture_rows(config))}


_ROWS: dict[str, Callable[[Any], dict[str, int]]] = {
    "grpo": _grpo_rows,
    "sft": _sft_rows,
    "dpo": _dpo_rows,
    "pretrain": _pretrain_rows,
    "vit": _vit_rows,
}


def _steps(stage: str, config: Any) -> dict[str, Any]:
    trainer = config.trainer
    unit = next((name for name in PER_STEP if hasattr(trainer, name)), None)
    answers = config.rollout.completions if stage == "grpo" else None
    return {
        "total": trainer.steps,
        "done": CheckpointStore(Path(trainer.run_dir), 1).newest_step() or 0,
        "unit": unit.removesuffix("_per_step") if unit else "pictures",
        "per_step": getattr(trainer, unit) if unit else config.batch,
        "answers_each": answers,
    }


def _steps_text(steps: dict[str, Any], rows: int) -> str:
    per_step, total = steps["per_step"], steps["total"]
    if total is None:
        return f"as many as the cascade's epochs have, of {per_step} {steps['unit']} each"
    text = f"{total} of {per_step} {steps['unit']} each"
    if steps["unit"] != "packs":
        text += f", {total * per_step / rows:.2g} times each row"
    if steps["answers_each"]:
        text += (
            f"; {per_step * steps['answers_each']} answers a step, {total * per_step * steps['answers_each']} in all"
        )
    return text + (f"; {steps['done']} are done, it would resume" if steps["done"] else "")


def _memory(stage: str, config: Any) -> dict[str, Any]:
    accelerator = get_accelerator(config.cluster.accelerator)
    weights = weights_gib(config.model.path)
    parts = memory_of([config.model.path], accelerator.ray_resource is not None)
    phases = []
    for name, blocks in phases_of(stage, config, weights, parts):
        actors = [actor for block in blocks for actor in block.actors]
        roles = dict.fromkeys(actor.role for actor in actors)
        alike = [[actor for actor in actors if actor.role == role] for role in roles]
        described = [{"role": same[0].role, "count": len(same), "gib": same[0].gib_per_device} for same in alike]
        phases.append({"name": name, "actors": described})
    where = (
        "on this machine's cores and memory" if accelerator.ray_resource is None else f"each on its {accelerator.name}"
    )
    return {"phases": phases, "device": where, "free_gib": host_memory()[0] / GIB}


def _files(config: Any, room: str) -> dict[str, str]:
    folder = Path(config.trainer.run_dir)
    holds = "config.yaml, metrics.jsonl, run.log, checkpoints/ with the model"
    if hasattr(config, "rollout"):
        holds += ", rollouts/ with every answer"
    return {"run_dir": str(folder), "holds": holds, "room": room}


def _warnings(config: Any, rows: dict[str, int], disk: Finding) -> Iterator[str]:
    """What does not stand against the run yet, and will, or looks like success and is not."""
    if both := rows.get("held_out_and_trained"):
        from pangu_rl.loops.inputs.prompts import held_out_and_trained

        yield held_out_and_trained(both, rows["held_out"])
    if disk.status != "ok":
        yield f"{disk.detail}: {disk.mend}"
    yield from doubts(config)
    accelerator = get_accelerator(config.cluster.accelerator)
    if accelerator.ray_resource is not None and not accelerator.detect():
        yield f"this machine has no {accelerator.name}: the run needs a cluster that has, or cluster.accelerator=cpu"
