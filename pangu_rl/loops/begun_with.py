"""A training stage's configuration, model and rows -> **what its run directory belongs to from the first start on**."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pangu_rl.checkpoint.model_folder import companion_digest, sampled_checksum
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.sections.algorithm import SupervisedConfig
from pangu_rl.loops.free_keys import RESUMED


def begun_with(stage: str, config: Any, model: Path, rows: Mapping[str, str]) -> dict[str, Any]:
    """All that decides what the stage trains, as JSON values; `rows` are digests of its data by their keys.

    A resume with another value is refused: the optimizer's state is of the old one, and `config.yaml` would name the
    new.
    """
    tree = config.model_dump(mode="json", exclude=RESUMED)
    tree["model"] = tree.get("model", {}) | model_digests(model, config.model.chat_template)
    tree["data"] = tree.get("data", {}) | rows
    optimizer = getattr(config.learner, "optimizer", None)
    # The vision stage's rate always falls to its last step, and shares may change up to it.
    if optimizer is None or optimizer.schedule != "constant" or getattr(config.data, "end_shares", None):
        tree.setdefault("trainer", {})["steps"] = config.trainer.steps
    loss = getattr(config, "algorithm", None)
    if isinstance(loss, SupervisedConfig) and loss.knows_packs:
        tree["learner"]["pack_tokens"] = config.learner.pack_tokens
    return {"stage": stage, **tree}


def model_digests(model: Path, chat_template: str | None) -> dict[str, str | None]:
    """What a model folder is, wherever it lies: of its weights, of what makes tokens and patches, of the template that
    stands in for its own."""
    template = resolve_path(chat_template).read_bytes() if chat_template else None
    return {
        "weights": sampled_checksum(model),
        "tokenizer_and_processor": companion_digest(model),
        "chat_template": None if template is None else hashlib.sha256(template).hexdigest(),
    }
