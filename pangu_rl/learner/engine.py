"""DeepSpeed: the model of a rank and its optimizer -> **an engine of a ZeRO stage** -> learner.

The only file that imports deepspeed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
from deepspeed.runtime.fp16.loss_scaler import LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address
from torch import Tensor
from transformers import PreTrainedModel

from pangu_rl.checkpoint.rank_files import host_copy
from pangu_rl.errors import CheckpointError
from pangu_rl.learner.model import PackedCausalLM
from pangu_rl.learner.optimizer import build_optimizer, rate_at
from pangu_rl.learner.pictures import is_multimodal
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.learner.zero import deepspeed_config

CHECKPOINT_CLASSES = [LossScaler, ZeroStageEnum, fragment_address]
"""What DeepSpeed pickles beside tensors; nothing else is unpickled from a checkpoint."""
TAG = "engine"
"""Folder of DeepSpeed's files."""
Read = Callable[[Path], Any]


def initialize(
    spec: LearnerSpec, lm: PreTrainedModel, groups: list[dict[str, Any]], backend: str
) -> deepspeed.DeepSpeedEngine:
    """Join the ranks and build the engine over `lm`, packed; `groups` are the optimizer's parameter groups.

    DeepSpeed is told nothing of sequence parallelism: it averages over all ranks and partitions over all of them, and
    the learner's loss has the factor that makes a sum of that.
    """
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # The shared-memory op serves inference only, and compiling it would need a toolchain at the first start.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    os.environ.setdefault("LOCAL_RANK", "0")
    deepspeed.init_distributed(
        dist_backend=backend, auto_mpi_discovery=False, verbose=False, rank=spec.rank, world_size=spec.world_size
    )
    module = PackedCausalLM(lm, temperature=spec.temperature, chunk=spec.learner.logprob_chunk)
    optimizer_config, stage = spec.learner.optimizer, spec.learner.zero_stage
    optimizer = build_optimizer(groups, optimizer_config, stage)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: rate_at(step, spec.total_steps, optimizer_config)
    )
    config = deepspeed_config(spec, sum(parameter.numel() for parameter in module.parameters()))
    engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, lr_scheduler=schedule, config=config)
    engine.checkpoint_engine = MemoryCheckpointEngine()
    if stage == 3:
        # Weights that are used outside their own modules: ZeRO must gather them for those that use them.
        deepspeed.zero.register_external_parameter(module, lm.get_output_embeddings().weight)
        if is_multimodal(lm):
            embed = lm.visual.patch_embed
            deepspeed.zero.register_external_parameter(embed, embed.proj.weight)
    if spec.world_size == 1 and isinstance(engine.optimizer, BF16_Optimizer):
        # Its gradients are whole already; a reduction with itself copies all of them.
        engine.enable_backward_allreduce = False
    return engine


def whole_parameters(lm: PreTrainedModel, zero_stage: int) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of every parameter, tied ones once; under ZeRO 3 every rank must exhaust the iterator."""
    for name, parameter in lm.named_parameters():
        partitioned = [parameter] if zero_stage == 3 else []
        with deepspeed.zero.GatheredParameters(partitioned, enabled=bool(partitioned)):
            yield name, parameter.detach().clone() if partitioned else parameter.detach()


def take_states(engine: deepspeed.DeepSpeedEngine, directory: Path) -> dict[str, Any]:
    """What DeepSpeed saves on this rank: name below `directory` -> its content, as copies in host memory.

    Collective. DeepSpeed makes its folders, and copies its scripts, in `directory`.
    """
    engine.save_checkpoint(str(directory), tag=TAG, save_latest=False)
    taken, engine.checkpoint_engine.taken = engine.checkpoint_engine.taken, {}
    return {path.relative_to(directory).as_posix(): state for path, state in taken.items()}


def load_states(engine: deepspeed.DeepSpeedEngine, directory: Path, read: Read) -> None:
    """Have DeepSpeed load what `read` makes of the files that it asks for. Collective.

    Where every rank has all weights, rank 0 reads them for all.

    Raises:
        CheckpointError: a file is missing.
    """
    model = Path(engine._get_ckpt_name(str(directory), TAG))
    if not model.is_file():  # DeepSpeed looks by a pattern, and asserts
        raise CheckpointError(f"{model} is missing")
    engine.checkpoint_engine.read = read
    shared = engine.zero_optimization_stage() in (1, 2)
    try:
        path, _ = engine.load_checkpoint(str(directory), tag=TAG, custom_load_fn=_load_shared if shared else None)
    except FileNotFoundError as error:
        raise CheckpointError(f"{error.filename} is missing") from None
    assert path is not None, f"DeepSpeed has loaded nothing from {directory}"


def read_state(path: Path, *, mapped: bool = False) -> Any:
    """A file of DeepSpeed's, with tensors and CHECKPOINT_CLASSES alone; `mapped` tensors are read where they are used.

    DeepSpeed's own reader unpickles whatever the file says.
    """
    with torch.serialization.safe_globals(CHECKPOINT_CLASSES):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


class MemoryCheckpointEngine(TorchCheckpointEngine):
    """Takes what DeepSpeed saves into memory, and gives it what `read` makes of a file."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: dict[Path, Any] = {}
        self.read: Read = read_state

    def save(self, state_dict: Any, path: str) -> None:
        self.taken[Path(path)] = host_copy(state_dict)

    def load(self, path: str, map_location: Any = None) -> Any:
        return self.read(Path(path))


def _load_shared(src: dict[str, Tensor], dst: torch.nn.Module) -> None:
    """Load a state dict that is mapped from a file: only rank 0 touches its tensors, the others are sent them."""
    if dist.get_rank() == 0:
        dst.load_state_dict(src)
    if dist.get_world_size() > 1:
        for tensor in dst.state_dict().values():
            dist.broadcast(tensor, 0)
