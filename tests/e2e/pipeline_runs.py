"""A pipeline of seconds over all stages of a text model: two branches, pairs, DPO, GRPO, a round, their mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.e2e import recipe_runs, runs

STAGES = ("base", "branch", "pairs", "dpo", "prompts", "grpo", "round", "mean")


def write_pipeline(folder: Path, model: Path, **sections: Any) -> Path:
    """The stages' files and the pipeline's, in `folder`; checkpoints at every step, so that a kill costs one."""
    recipe_runs.write_queries(folder)
    learner = {"optimizer": {"lr": 1e-3}, "pack_tokens": 256}
    often = {"checkpoint_every": 1, "keep_checkpoints": 1}
    sampled = recipe_runs.write_config(folder, model, "pairs", trainer={"run_dir": "unused", "prompts_per_step": 4})
    sampled.rename(folder / "sampled.yaml")
    rounds = {"run_dir": "unused", "steps": 1, "sequences_per_step": 2, "prompts_per_step": 4, "checkpoint_every": 1}
    recipe_runs.write_config(folder, model, "iterative", trainer=rounds)
    runs.write_config(folder, model, trainer=often | {"run_dir": "unused"}).rename(folder / "grpo.yaml")
    queries = str(folder / "queries.jsonl")
    _write(
        folder / "sft.yaml",
        {
            "model": {"path": str(model)},
            "data": {"train": queries, "max_tokens": 128},
            "learner": learner,
            "trainer": {"run_dir": "unused", "steps": 2, "sequences_per_step": 4} | often,
        },
    )
    _write(
        folder / "dpo.yaml",
        {
            "model": {"path": "unused"},
            "data": {"train": "unused", "max_tokens": 128},
            "learner": learner,
            "trainer": {"run_dir": "unused", "steps": 2, "pairs_per_step": 2} | often,
        },
    )
    _write(
        folder / "eval.yaml",
        {
            "model": {"path": "unused"},
            "data": {
                "sets": {"heldout": str(folder / "heldout.jsonl"), "asked": str(folder / "prompts.jsonl")},
                "max_prompt_tokens": 96,
            },
            "rollout": {"max_new_tokens": 8, "max_model_tokens": 128, "max_concurrent": 16, "kv_cache_gib": 0.1},
            "rewards": {"functions": [{"name": recipe_runs.SCORE}]},
            "trainer": {"run_dir": "unused"},
        },
    )
    tree = {
        "trainer": {"run_dir": str(folder / "run"), "seed": 3},
        "stages": stages(folder),
        "evaluate": {"config": str(folder / "eval.yaml")},
        "cluster": {"object_store_gib": 0.1},
        "monitoring": {"tensorboard": False},
    }
    return _write(folder / "pipeline.yaml", tree | sections)


def stages(folder: Path) -> dict[str, Any]:
    def file(name: str) -> str:
        return str(folder / f"{name}.yaml")

    return {
        "base": {"stage": "sft", "config": file("sft")},
        "branch": {"stage": "sft", "config": file("sft"), "set": {"trainer.seed": 4, "learner.optimizer.lr": 5e-3}},
        "pairs": {"stage": "pairs", "config": file("sampled"), "takes": {"model.path": "base.model"}},
        "dpo": {
            "stage": "dpo",
            "config": file("dpo"),
            "takes": {"model.path": "base.model", "data.train": "pairs.pairs"},
        },
        "prompts": {
            "stage": "difficulty",
            "config": file("sampled"),
            "takes": {"model.path": "dpo.model"},
            "set": {"max_pass_rate": 1.0},
        },
        "grpo": {
            "stage": "grpo",
            "config": file("grpo"),
            "takes": {"model.path": "dpo.model", "data.train": "prompts.prompts"},
        },
        "round": {"stage": "iterative", "config": file("iterative"), "takes": {"model.path": "grpo.model"}},
        "mean": {"stage": "merge", "models": ["round", "branch"], "weights": [3, 1]},
    }


def _write(path: Path, tree: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def manifest(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "manifest.json").read_text())
