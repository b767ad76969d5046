"""Families of vision-language models: `config.json` -> **the family that it names** -> data, learner and engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretrain.families.family import Family
from pretrain.families.internvl import InternVL
from pretrain.families.llava import Llava
from pretrain.families.pangu import Pangu
from pretrain.families.qwen2_vl import Qwen2VL
from pretrain.families.qwen3_vl import Qwen3VL

FAMILIES: tuple[type[Family], ...] = (Pangu, Qwen2VL, Qwen3VL, InternVL, Llava)


def family_of(config: Mapping[str, Any], folder: Path) -> Family | None:
    """The family of the model in `folder`, whose `config.json` holds `config`; None of a text model, and of one whose
    pictures are not known here.

    Raises:
        ConfigError: the family has models of this kind that cannot be trained.
    """
    kind = config.get("model_type")
    found = next((family for family in FAMILIES if kind in family.model_types), None)
    return None if found is None or not found.sees(config) else found(config, folder)


def known_kinds() -> str:
    """Every `model_type` that pictures are known of, to be read by a person."""
    return ", ".join(kind for family in FAMILIES for kind in family.model_types)
