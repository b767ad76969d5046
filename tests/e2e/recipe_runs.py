"""A tiny model that ends its answers, and configurations of seconds for the stages that sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.builders import build_tiny_model
from tests.e2e.runs import REPO

SCORE = f"{REPO}/tests/e2e/drawn_score.py:drawn"
QUERIES = 12
END = 2
"""Id of SmolLM2's <|im_end|>."""


def stopping_model(folder: Path) -> Path:
    """Random weights never end an answer: the end token pads too, so its embedding, which is its head, is 0. One of ten
    times the others' length ends about one position in three; by this seed hardly ever the first."""
    build_tiny_model(folder)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    embedding = tensors["model.embed_tokens.weight"]
    embedding[END] = torch.randn(embedding.shape[1], generator=torch.Generator().manual_seed(6))
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


def write_queries(folder: Path) -> None:
    """12 conversations, and held-out prompts that ask what the first 4 of them ask."""
    rows = [
        {
            "id": f"q{i}",
            "messages": [
                {"role": "user", "content": f"What is {i} + {i + 3}?"},
                {"role": "assistant", "content": f"It is \\boxed{{{2 * i + 3}}}"},
            ],
            "source": "even" if i % 2 == 0 else "odd",
        }
        for i in range(QUERIES)
    ]
    heldout = [{"id": f"h{i}", "prompt": f"what is {i} + {i + 3}", "answer": str(2 * i + 3)} for i in range(4)]
    for name, content in (("queries", rows), ("heldout", heldout)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))


def write_config(folder: Path, model: Path, stage: str, **sections: dict[str, Any]) -> Path:
    tree: dict[str, Any] = {
        "model": {"path": str(model)},
        "data": {"queries": str(folder / "queries.jsonl"), "max_prompt_tokens": 96},
        "rollout": {
            "completions": 8,
            "max_new_tokens": 16,
            "max_model_tokens": 128,
            "max_concurrent": 16,
            "kv_cache_gib": 0.1,
        },
        "rewards": {"functions": [{"name": SCORE}]},
        "trainer": {"run_dir": str(folder / stage), "prompts_per_step": 5},
        "monitoring": {"tensorboard": False},
        "cluster": {"object_store_gib": 0.1},
    }
    if stage == "iterative":
        tree["data"]["heldout"] = str(folder / "heldout.jsonl")
        tree["learner"] = {"optimizer": {"lr": 1e-2}, "pack_tokens": 256}
        tree["trainer"] |= {"steps": 1, "sequences_per_step": 2}
    for name, section in sections.items():
        tree[name] = {**tree.get(name, {}), **section}
    path = folder / f"{stage}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def manifest(folder: Path, stage: str) -> dict[str, Any]:
    return json.loads((folder / stage / "manifest.json").read_text())


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
