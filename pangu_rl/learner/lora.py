"""Low-rank adapters in a frozen model: loaded model -> **peft's layers in the place of linear ones** -> engine.

The model keeps its class and its modules' names; a layer that has an adapter holds its own weight as `base_layer` and
the adapter beside it. To everyone outside (engines, checkpoints) the weight goes by the name that it had before.

The only file that imports peft, and only where a configuration asks for adapters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from pangu_rl.config.sections.learner import LearnerConfig
from pangu_rl.config.sections.lora import ALL_LINEAR, LoraConfig
from pangu_rl.errors import ConfigError
from pangu_rl.learner.pictures import family_of_model

ADAPTER = "default"
"""peft's name of the only adapter."""
BASE = ".base_layer"
"""What peft puts into the name of a weight that has an adapter."""
TASK = "CAUSAL_LM"
SHOWN = 8
"""Names in an error."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """What is added to one weight [N, K]: scale * b [N, R] a [R, K]."""

    layer: str
    """Its name in the model."""
    a: nn.Parameter
    b: nn.Parameter
    scale: float


def add_adapters(lm: PreTrainedModel, config: LearnerConfig, seed: int) -> None:
    """Freeze `lm` and give the layers that `config.lora` names an adapter each, the same on every rank.

    Raises:
        ConfigError: a target that no layer of the trained parts has, the output head, or a rank above a layer's side.
    """
    import peft

    lora, layers = config.lora, target_layers(lm, config)
    described = peft.LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=layers, task_type=TASK)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(described, lm, ADAPTER)


def adapters_of(lm: PreTrainedModel) -> dict[str, Adapter]:
    """The adapter of each weight that has one, by the name of the weight in a checkpoint of the whole model."""
    return {
        f"{name}.weight": Adapter(
            name, layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight, layer.scaling[ADAPTER]
        )
        for name, layer in _layers(lm)
    }


def has_adapters(model: nn.Module) -> bool:
    return next(_layers(model), None) is not None


def frozen_names(model: nn.Module) -> frozenset[str]:
    """Weights that do not learn, tied ones under each of their names."""
    named = model.named_parameters(remove_duplicate=False)
    return frozenset(name for name, parameter in named if not parameter.requires_grad)


@contextmanager
def without_adapters(lm: PreTrainedModel) -> Iterator[None]:
    """Within it `lm` is the model that it was before adapters came."""
    layers = [layer for _, layer in _layers(lm)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def peft_config(config: LoraConfig, adapters: Iterable[Adapter], base: Path) -> dict[str, Any]:
    """The content of `adapter_config.json` for `adapters` of the model in `base`, as peft reads it."""
    import peft

    told = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=[adapter.layer for adapter in adapters],
        task_type=TASK,
        base_model_name_or_path=str(base),
        inference_mode=True,
    ).to_dict()
    # A set in peft's hands, whose order changes from process to process.
    return told | {"target_modules": sorted(told["target_modules"])}


def target_layers(lm: nn.Module, config: LearnerConfig) -> list[str]:
    """Names of the linear layers that get an adapter, in the model's order; see `add_adapters`."""
    family = family_of_model(lm)
    linear = {name: module for name, module in lm.named_modules() if isinstance(module, nn.Linear)}
    head_name = next(name for name, module in lm.named_modules() if module is lm.get_output_embeddings())
    del linear[head_name]
    parts = {name: family.part(f"{name}.") if family is not None else None for name in linear}
    trained = {name: layer for name, layer in linear.items() if parts[name] in (None, *config.trainable)}
    _check_apart(config, parts, trained)
    targets = config.lora.targets
    for target in () if targets == ALL_LINEAR else targets:
        if not any(map(_named(target), trained)):
            raise ConfigError(f"learner.lora.targets: {_why_absent(target, trained, parts, head_name)}")
    chosen = {
        name: layer
        for name, layer in trained.items()
        if targets == ALL_LINEAR or any(_named(target)(name) for target in targets)
    }
    _check_rank(config.lora.rank, chosen)
    return list(chosen)


def _layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    return ((name, module) for name, module in model.named_modules() if hasattr(module, "lora_A"))


def _named(target: str) -> Callable[[str], bool]:
    """As peft decides: the whole name, or its end behind a dot."""
    return lambda name: name == target or name.endswith(f".{target}")


def _why_absent(target: str, trained: Iterable[str], parts: Mapping[str, str | None], head_name: str) -> str:
    if _named(target)(head_name):
        return f"{target} is the output head, whose log-probs are worked out in chunks, past any adapter: leave it out"
    if elsewhere := next(filter(_named(target), parts), None):
        part = parts[elsewhere]
        return f"{target} is of the {part} alone ({elsewhere}): add {part} to learner.trainable, or leave it out"
    names = sorted({name.rpartition(".")[2] for name in trained})
    more = ", ..." if len(names) > SHOWN else ""
    return f"no linear layer is named {target}; there are {', '.join(names[:SHOWN])}{more} ({ALL_LINEAR} takes all)"


def _check_apart(config: LearnerConfig, parts: Mapping[str, str | None], trained: Iterable[str]) -> None:
    beside = sorted({part for name in trained if (part := parts[name]) not in (None, "language")})
    if beside and config.lora.apart:
        raise ConfigError(
            f"learner.lora.in_engines is apart and learner.trainable has {', '.join(beside)}: engines add adapters in "
            "the language model alone; set trainable to [language], or in_engines to folded"
        )


def _check_rank(rank: int, layers: Mapping[str, nn.Linear]) -> None:
    for name, layer in layers.items():
        side = min(layer.in_features, layer.out_features)
        if rank > side:
            raise ConfigError(
                f"learner.lora.rank {rank} exceeds a side of {name} ({layer.out_features} x {layer.in_features}): an "
                f"adapter would be larger than the layer; set it to {side} or less, or leave the layer out of targets"
            )
