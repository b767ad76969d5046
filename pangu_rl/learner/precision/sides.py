"""One side of a comparison: `MODEL`, `transformers:MODEL` or a trace -> **its trace**, float32, on the device here.

`MODEL` runs as the learner runs it: packed attention and fused operations. `transformers:MODEL` is the model's own code
with eager attention. A model with a tower is shown a picture.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel

from pangu_rl.accelerators import get_accelerator
from pangu_rl.checkpoint.model_folder import model_config
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.errors import DataError, first_line
from pangu_rl.learner.model import PackedCausalLM, PackTensors, load_causal_lm, without_dropout
from pangu_rl.learner.packed_attention import attend_by
from pangu_rl.learner.pictures import family_of_model
from pangu_rl.learner.precision.fixed_sequence import FixedSequence, fixed_sequence
from pangu_rl.learner.precision.trace import Trace, load_trace, record_trace
from pretrain.auto import register_auto_classes
from pretrain.families import family_of

THEIRS = "transformers:"
CHUNK = 1024


def trace_of(side: str, tokens: int) -> Trace:
    """
    Raises:
        DataError: neither a trace nor a folder of a causal language model.
    """
    if (file := resolve_path(side)).is_file():
        return load_trace(file)
    device = torch.device(get_accelerator().name)
    if side.startswith(THEIRS):
        model = own_code(resolve_path(side.removeprefix(THEIRS))).to(device)
        return record_trace(model, partial(own_log_probs, model, _sequence(model, tokens), device))
    model = load_causal_lm(ModelConfig(path=side, dtype="float32")).to(device)
    batch = PackTensors.of(_sequence(model, tokens).pack, device)
    packed = PackedCausalLM(model, temperature=1.0, chunk=CHUNK)
    with attend_by(batch.layout):
        return record_trace(model, lambda: packed(batch)[0])


def own_code(folder: Path) -> PreTrainedModel:
    """The model as transformers runs it; raises `DataError` of a folder that it does not load."""
    register_auto_classes()
    kind = AutoModelForCausalLM if family_of(model_config(folder), folder) is None else AutoModelForImageTextToText
    try:
        model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: not a causal LM that transformers loads: {first_line(error)}") from None
    return without_dropout(model)


def own_log_probs(model: PreTrainedModel, sequence: FixedSequence, device: torch.device) -> Tensor:
    """float32 [T - 1], of each token of `sequence` but the first."""
    ids = torch.from_numpy(sequence.token_ids).to(device)
    shown = {}
    if (family := family_of_model(model)) is not None:
        placeholder = next(token for token in family.written if token in family.placeholders)
        shown = family.inputs(ids.unsqueeze(0), [(placeholder, picture) for picture in sequence.pictures])
    logits = model(input_ids=ids.unsqueeze(0), use_cache=False, **shown).logits[0, :-1]
    return torch.log_softmax(logits.float(), -1).gather(1, ids[1:, None]).squeeze(1)


def _sequence(model: PreTrainedModel, tokens: int) -> FixedSequence:
    words = model.get_input_embeddings().num_embeddings // 2  # special ones stand at the end
    return fixed_sequence(words, tokens, family_of_model(model))
