"""Weights -> **a model folder in Hugging Face layout** -> whoever loads it, vLLM included."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel

from pangu_rl.checkpoint.model_folder import COMPANIONS


def write_model(directory: Path, lm: PreTrainedModel, state: Mapping[str, Tensor], source: Path) -> None:
    """Write `lm` with the weights `state` into `directory`, and the tokenizer and processor of the folder `source`."""
    directory.mkdir(parents=True, exist_ok=True)
    lm.save_pretrained(directory, state_dict=dict(state))
    for pattern in COMPANIONS:
        for file in source.glob(pattern):
            shutil.copy(file, directory)
