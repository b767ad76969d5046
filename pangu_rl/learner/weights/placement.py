"""Where a weight goes while a model is loaded: checkpoint -> **each parameter placed as it is read** -> engine.

transformers maps a checkpoint's files and reads a tensor when it fills its parameter. A parameter that is moved to the
device, or cut down to a rank's part, before the next is read leaves one tensor at a time in host memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from transformers import PreTrainedModel

from pangu_rl.checkpoint.model_tensors import ModelTensors
from pangu_rl.errors import DataError

SYNCHRONOUS = "HF_DEACTIVATE_ASYNC_LOAD"
"""Without it transformers' threads read and cast far ahead of the parameter that is being filled."""

Place = Callable[[nn.Parameter], None]
"""Puts the parameter's data where it belongs; a second call does nothing."""


@contextmanager
def placed_as_read(place: Place) -> Iterator[None]:
    """Within, `place` takes every parameter that transformers fills from a checkpoint, before it fills the next."""

    def registered(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> None:
        # The mark says filled: what a checkpoint lacks is left whole for transformers to initialise.
        if parameter is not None and not parameter.is_meta and getattr(parameter, "_is_hf_initialized", False):
            place(parameter)

    before = os.environ.get(SYNCHRONOUS)
    os.environ[SYNCHRONOUS] = "1"
    hook = register_module_parameter_registration_hook(registered)
    try:
        yield
    finally:
        hook.remove()
        os.environ.pop(SYNCHRONOUS)
        if before is not None:
            os.environ[SYNCHRONOUS] = before


def check_ties(lm: PreTrainedModel, folder: Path) -> None:
    """Prove that tensors which were tied unseen, in parts, are equal in the checkpoint where it holds both.

    Raises:
        DataError: they differ; names both.
    """
    parts = any(hasattr(parameter, "ds_id") for parameter in lm.parameters())
    ties = lm.all_tied_weights_keys if parts else {}
    if not ties:
        return
    stored = ModelTensors(folder)
    for tied, source in ties.items():
        both = tied in stored.entries and source in stored.entries
        if both and not torch.equal(stored.read(tied), stored.read(source)):
            raise DataError(
                f"{folder}: config.json ties {tied} to {source}, and the weights hold another tensor for each: set "
                "tie_word_embeddings to false in config.json"
            )
