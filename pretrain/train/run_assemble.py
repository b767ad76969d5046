"""The stage before the first: shape and parts -> **a model folder with tokenizer and processor** -> training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from pangu_rl.checkpoint.run_model import named_model, refuse_missing_run
from pangu_rl.checkpoint.settings import SETTINGS, begin, claim, write_whole
from pangu_rl.checkpoint.whole_folder import whole_folder
from pangu_rl.config.assemble import AssembleConfig
from pangu_rl.errors import DataError, first_line
from pangu_rl.learner.model import DTYPES
from pangu_rl.learner.pictures import family_of_model
from pretrain.auto import register_auto_classes
from pretrain.models.assemble import Parts, assemble
from pretrain.models.configuration import PanguVLConfig
from pretrain.processing.number_tokens import with_numbers
from pretrain.processing.processor import PanguVLImageProcessor, PanguVLProcessor
from pretrain.processing.resize import PixelLimits, read_limits
from pretrain.processing.video import BUDGET_KEYS

MODEL, PARTS = "model", "parts.json"
"""In the run directory: the model, and how many parameters each part has, and which start at random."""


def run_assemble(config: AssembleConfig) -> dict[str, Any]:
    """Write the model, whole or not at all; one that is there is kept. Returns what `parts.json` says.

    Raises:
        DataError: a folder that cannot be used, a part of another shape, or a tokenizer larger than the vocabulary.
        ConfigError: a name on the hub that is not in the cache and cannot be fetched; the model that is there was made
            with other settings.
        RunError: the model cannot be written.
    """
    run_dir = Path(config.trainer.run_dir)
    asked = config.model_dump(mode="json", exclude={"trainer": {"run_dir"}})
    if (run_dir / MODEL).is_dir():
        if (run_dir / SETTINGS).is_file():
            claim(run_dir, asked)
        return json.loads((run_dir / PARTS).read_text(encoding="utf-8"))
    named = {part: getattr(config, part) for part in ("encoder", "connector", "language")}
    for part, folder in named.items():
        if folder is not None:
            refuse_missing_run(folder, config.trainer.run_dir, part)
    settings = _settings(config)
    tokenizer = _tokenizer(config, settings)
    parts = Parts(**{part: None if folder is None else named_model(folder, part) for part, folder in named.items()})
    limits = _limits(config)
    torch.manual_seed(config.trainer.seed)
    model = assemble(settings, parts, DTYPES[config.dtype])
    sizes, family = dict.fromkeys(named, 0), family_of_model(model)
    for name, parameter in model.named_parameters():
        sizes[family.part(name)] += parameter.numel()
    found = {"parameters": sizes, "random": [part for part, folder in named.items() if folder is None]}
    run_dir.mkdir(parents=True, exist_ok=True)
    begin(run_dir, asked)
    write_whole(run_dir / PARTS, json.dumps(found) + "\n")
    with whole_folder(run_dir / MODEL) as folder:
        model.save_pretrained(folder)
        frames = {key: getattr(config.frames, field) for field, key in BUDGET_KEYS.items()}
        pictures = PanguVLImageProcessor(limits.min_pixels, limits.max_pixels, **frames)
        PanguVLProcessor(pictures, tokenizer).save_pretrained(folder)
    return found


def _limits(config: AssembleConfig) -> PixelLimits:
    if config.processor is None:
        return PixelLimits(config.min_pixels, config.max_pixels)
    return read_limits(named_model(config.processor, "processor"))


def _settings(config: AssembleConfig) -> PanguVLConfig:
    register_auto_classes()
    folder = named_model(config.shape, "shape")
    try:
        found = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise DataError(f"shape {folder}: no config.json that can be read: {first_line(error)}") from None
    if not isinstance(found, PanguVLConfig):
        raise DataError(f"shape {folder}: model_type is {found.model_type}: give one of openpangu_vl or mindvl")
    if config.rope is not None:
        dealt = {"mrope_section": list(config.rope.sections), "mrope_interleaved": config.rope.interleaved}
        found.text_config.rope_parameters |= dealt
    return found


def _tokenizer(config: AssembleConfig, settings: PanguVLConfig) -> PreTrainedTokenizerBase:
    folder = named_model(config.tokenizer, "tokenizer")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise DataError(f"tokenizer {folder}: none that can be read: {first_line(error)}") from None
    if config.numbers is not None:
        tokenizer = with_numbers(tokenizer, config.numbers)
    if config.numbers == "whole" and config.language is None:
        settings.text_config.vocab_size = max(len(tokenizer), settings.text_config.vocab_size)
    vocabulary = settings.text_config.vocab_size
    if len(tokenizer) > vocabulary:
        raise DataError(
            f"tokenizer {folder} has {len(tokenizer)} tokens and the model of shape {config.shape} has a vocab_size of "
            f"{vocabulary}: name a shape and a tokenizer of one model"
        )
    return tokenizer
