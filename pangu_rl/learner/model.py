"""The causal LM, packed: pack -> base model -> chosen hidden states -> **log-probs and entropy** -> objective.

Any causal LM of transformers whose attention goes through the attention-interface registry runs here, and the
multimodal models of `pretrain.models` over it; `packing_check` proves it for the model at hand, since a model may
bypass the registry, or carry a state from one sequence into the next.
Letters: T tokens, M targets, V vocabulary, E hidden size.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel

from pangu_rl.accelerators.transfer import to_device
from pangu_rl.checkpoint.model_folder import model_config
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.errors import DataError, first_line
from pangu_rl.learner.chunked_logprobs import target_logprobs
from pangu_rl.learner.fused import fuse_operations
from pangu_rl.learner.logit_scaling import logit_scaling
from pangu_rl.learner.packed_attention import PACKED, Layout, build_layout
from pangu_rl.learner.parallel.sequence_parallel import SequenceGroup, TargetShares, padded, share_targets
from pangu_rl.learner.pictures import PictureTensors, family_of_model, picture_states
from pangu_rl.learner.weights.placement import Place, check_ties, placed_as_read
from pangu_rl.records import Pack
from pretrain.auto import register_auto_classes
from pretrain.families import family_of, known_kinds
from pretrain.families.family import Family

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True, slots=True)
class PackTensors:
    """A pack on the device."""

    token_ids: Tensor
    """int64 [1, T]"""
    position_ids: Tensor
    """int64 [1, T], or [3, 1, T] of a multimodal model."""
    predictors: Tensor
    """int64 [M]"""
    target_ids: Tensor
    """int64 [M], the target tokens themselves."""
    sequence_ids: Tensor
    """int64 [M]"""
    columns: dict[str, Tensor]
    """float32 [M] each."""
    layout: Layout
    pictures: PictureTensors
    shares: TargetShares | None = None
    """Under sequence parallelism: T are this rank's tokens, `predictors` and `target_ids` its own targets, while
    `sequence_ids` and `columns` stay those of all, which the log-probs are gathered to."""

    @classmethod
    def of(cls, pack: Pack, device: torch.device | str, sequence: SequenceGroup | None = None) -> PackTensors:
        """The whole pack, or this rank's part of what the ranks of `sequence` run together."""

        def move(array: np.ndarray) -> Tensor:
            return to_device(array, device)

        if sequence is not None:
            pack = padded(pack, sequence.size)
        whole = cls(
            token_ids=move(pack.token_ids).unsqueeze(0),
            position_ids=move(pack.position_ids).unsqueeze(-2),
            predictors=move(pack.predictors),
            target_ids=move(pack.token_ids[pack.targets]),
            sequence_ids=move(pack.sequence_ids),
            columns={name: move(column) for name, column in pack.columns.items()},
            layout=build_layout(pack, device, sequence),
            pictures=PictureTensors.of(pack, device),
        )
        if sequence is None:
            return whole
        span = sequence.span(pack.num_tokens)
        own, shares = share_targets(pack, sequence, device)
        return replace(
            whole,
            token_ids=whole.token_ids[:, span],
            position_ids=whole.position_ids[..., span],
            predictors=move(pack.predictors[own] - span.start),
            target_ids=move(pack.token_ids[pack.targets[own]]),
            pictures=whole.pictures.within(span),
            shares=shares,
        )


class PackedCausalLM(nn.Module):
    """A causal LM that takes a pack and gives float32 (log-probs [M], entropy [M]) of its targets.

    Call it, and run the backward pass, under `attend_by(batch.layout)`. The ranks of a sequence group call it together
    and each gets the results of all; the gradient is that of the rank's own targets.
    """

    def __init__(self, lm: PreTrainedModel, *, temperature: float, chunk: int) -> None:
        super().__init__()
        self.lm = lm
        self.temperature = temperature
        self.chunk = chunk
        self.scaling = logit_scaling(lm.config.get_text_config())

    def forward(self, batch: PackTensors, temperature: float | None = None) -> tuple[Tensor, Tensor]:
        hidden = self._hidden_states(batch)[0].index_select(0, batch.predictors)
        head = self.lm.get_output_embeddings().weight
        temperature = self.temperature if temperature is None else temperature
        options = self.scaling.folded(temperature)
        logp, entropy = target_logprobs(hidden, head, batch.target_ids, chunk=self.chunk, **options)
        if batch.shares is not None:
            logp, entropy = batch.shares.gather(logp, entropy)
        return logp, entropy.detach()

    def _hidden_states(self, batch: PackTensors) -> Tensor:
        """[1, T, E]"""
        if family_of_model(self.lm) is not None:
            sequence = batch.layout.sequence
            return picture_states(self.lm, batch.token_ids, batch.position_ids, batch.pictures, sequence)
        # A cache would make packed sequences see each other.
        output = self.lm.base_model(input_ids=batch.token_ids, position_ids=batch.position_ids, use_cache=False)
        return output.last_hidden_state


def load_causal_lm(config: ModelConfig, place: Place | None = None) -> PreTrainedModel:
    """The model of `config.path` with packed attention, on the CPU or where `place` puts it, without dropout.

    Raises:
        DataError: no such folder, no weights in it, not a causal LM, tensors missing, an unknown dtype.
    """
    path = resolve_path(config.path)
    if config.dtype not in DTYPES:
        raise DataError(f"model.dtype is {config.dtype!r}: the learner trains in {' or '.join(DTYPES)}")
    folder = model_config(path)
    register_auto_classes()
    family = family_of(folder, path)
    kind = AutoModelForCausalLM if family is None else AutoModelForImageTextToText
    try:
        with nullcontext() if place is None else placed_as_read(place):
            lm, info = kind.from_pretrained(
                path,
                dtype=DTYPES[config.dtype],
                attn_implementation=PACKED if family is None else packed_text(family),
                trust_remote_code=config.trust_remote_code,
                output_loading_info=True,
            )
    except (ValueError, OSError, KeyError, RuntimeError, SafetensorError) as error:
        if isinstance(error, KeyError) and error.args == (PACKED,):
            raise DataError(
                f"{path}: its model code chooses attention from a table of its own, not from transformers' registry, "
                "where packed attention is: it cannot be trained packed"
            ) from error
        known = f" (models with pictures are {known_kinds()})" if folder.get("vision_config") else ""
        raise DataError(f"{path}: not a causal LM that transformers loads{known}: {first_line(error)}") from error
    if info["missing_keys"]:
        names = sorted(info["missing_keys"])
        raise DataError(f"{path}: {len(names)} tensors of the model are not in its weights, the first {names[0]}")
    if getattr(lm.get_output_embeddings(), "bias", None) is not None:
        raise DataError(f"{path}: the output head has a bias, which the chunked log-probs do not compute")
    if folder.get("vision_config") and not _has_tower(lm):
        raise DataError(
            f"{path}: has a vision_config, but transformers loads {type(lm).__name__} from it, which has no tower: "
            f"pictures would train as text and the tower would be lost; give a text model, or one of {known_kinds()}"
        )
    if place is not None:
        check_ties(lm, path)
    fuse_operations(lm)
    if family is not None:
        family.prepare(lm)
    return without_dropout(lm)


def packed_text(family: Family) -> dict[str, str]:
    """transformers' attention of each part of a model with pictures: packed in the language model, the family's in the
    tower."""
    return {"": PACKED, "text_config": PACKED, "vision_config": family.attention}


def without_dropout(model: PreTrainedModel) -> PreTrainedModel:
    """Log-probs of two passes must agree to the bit, or the first ratio of a step is not 1."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if isinstance(value, float) and ("drop" in name or "jitter" in name):
                setattr(module, name, 0.0)  # of `functional.dropout` and of routers
    return model.eval()


def checkpoint_layers(model: PreTrainedModel) -> None:
    """Have the backward pass run every layer again instead of keeping what is in it.

    transformers does so only in layers that are told they train; whatever lies in them stays as `without_dropout` left
    it, since some routers draw experts at random where they are told so.
    """
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for module in model.modules():
        if getattr(module, "gradient_checkpointing", False):
            module.training = True


def _has_tower(lm: PreTrainedModel) -> bool:
    """Ours, or any model inside it that reads pictures."""
    inner = (module for module in lm.modules() if module is not lm)
    return family_of_model(lm) is not None or any(
        "pixel_values" in getattr(module, "main_input_name", "") for module in inner
    )
