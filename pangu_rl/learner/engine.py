"""DeepSpeed: the model of a rank and its optimizer -> **an engine of a ZeRO stage** -> learner.

The only file that imports deepspeed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
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
from torch import Tensor, nn
from transformers import PreTrainedModel

from pangu_rl.accelerators import get_accelerator
from pangu_rl.checkpoint.rank_files import host_copy
from pangu_rl.config.sections.learner import OffloadConfig
from pangu_rl.errors import CheckpointError
from pangu_rl.learner.lora import frozen_names, has_adapters
from pangu_rl.learner.model import DTYPES, PackedCausalLM
from pangu_rl.learner.optimizer import build_optimizer, rate_at
from pangu_rl.learner.parallel.zero import deepspeed_config
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.learner.weights.offload import check_host_memory, offloaded_bytes
from pangu_rl.learner.weights.parking import tensors_in
from pangu_rl.learner.weights.placement import Place
from pretrain.models.vit import VisionModel

CHECKPOINT_CLASSES = [LossScaler, ZeroStageEnum, fragment_address]
"""What DeepSpeed pickles beside tensors; nothing else is unpickled from a checkpoint."""
TAG = "engine"
"""Folder of DeepSpeed's files."""
Read = Callable[[Path], Any]


def join_ranks(spec: LearnerSpec, backend: str) -> torch.device:
    """Meet the other ranks at MASTER_ADDR:MASTER_PORT; returns this rank's device."""
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    if get_accelerator(spec.accelerator).ray_resource is None:
        # The shared-memory op serves inference only, and compiling it would need a toolchain at the first start. Of a
        # device, the table alone would build every operation of DeepSpeed's.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    os.environ.setdefault("LOCAL_RANK", "0")
    deepspeed.init_distributed(
        dist_backend=backend, auto_mpi_discovery=False, verbose=False, rank=spec.rank, world_size=spec.world_size
    )
    return torch.device(deepspeed.accelerator.get_accelerator().device_name(os.environ["LOCAL_RANK"]))


def placement(spec: LearnerSpec, device: torch.device) -> Place:
    """Where a rank keeps a weight while the model is loaded: whole on its device, under ZeRO 3 its part of it.

    Under ZeRO 3 rank 0 reads and sends; every rank must load the same folder. Norms and biases stay whole until
    `initialize`: they are a thousandth of a model, and whoever looks at their values still can.
    """
    if spec.learner.zero_stage < 3:
        return partial(_move, device=device)
    return partial(_partition, device=device, dtype=DTYPES[spec.model.dtype], config=deepspeed_config(spec, 1))


def _move(parameter: nn.Parameter, *, device: torch.device) -> None:
    parameter.data = parameter.data.to(device)


def _partition(parameter: nn.Parameter, *, device: torch.device, dtype: torch.dtype, config: dict[str, Any]) -> None:
    if hasattr(parameter, "ds_id"):
        return
    if parameter.dim() < 2:
        parameter.data = parameter.data.to(device, dtype)
        return
    read = torch.distributed.get_rank() == 0
    parameter.data = (
        parameter.data.to(device, dtype) if read else torch.empty_like(parameter, dtype=dtype, device=device)
    )
    holder = nn.Module()
    # Not registered, which would call the hook that called us.
    holder._parameters["weight"] = parameter
    deepspeed.zero.Init(module=holder, config_dict_or_path=config)


def elements(parameter: nn.Parameter) -> int:
    """Of the whole parameter, which a rank may hold a part of."""
    return getattr(parameter, "ds_numel", parameter.numel())


def initialize(spec: LearnerSpec, lm: PreTrainedModel, groups: list[dict[str, Any]]) -> deepspeed.DeepSpeedEngine:
    """The engine over `lm`, packed, after `join_ranks`; `groups` are the optimizer's parameter groups.

    DeepSpeed is told nothing of sequence parallelism: it averages over all ranks and partitions over all of them, and
    the learner's loss has the factor that makes a sum of that.

    Raises:
        ConfigError: a node has less memory than `learner.offload` needs.
    """
    module = PackedCausalLM(lm, temperature=spec.temperature, chunk=spec.learner.logprob_chunk)
    optimizer_config, stage = spec.learner.optimizer, spec.learner.zero_stage
    count = sum(map(elements, module.parameters()))
    trained = sum(elements(parameter) for group in groups for parameter in group["params"])
    if spec.learner.offload != OffloadConfig():
        check_host_memory(offloaded_bytes(spec.learner, trained, count * lm.dtype.itemsize), "learner.offload keeps")
    optimizer = build_optimizer(groups, optimizer_config, stage)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: rate_at(step, spec.total_steps, optimizer_config)
    )
    config = deepspeed_config(spec, trained)
    engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, lr_scheduler=schedule, config=config)
    engine.checkpoint_engine = MemoryCheckpointEngine()
    if stage == 3:
        # Weights that are used outside their own modules: ZeRO must gather them for those that use them.
        deepspeed.zero.register_external_parameter(module, lm.get_output_embeddings().weight)
        if isinstance(getattr(lm, "visual", None), VisionModel):
            embed = lm.visual.patch_embed
            deepspeed.zero.register_external_parameter(embed, embed.proj.weight)
    if spec.world_size == 1 and isinstance(engine.optimizer, BF16_Optimizer):
        # Its gradients are whole already; a reduction with itself copies all of them.
        engine.enable_backward_allreduce = False
    return engine


def gathered(parameters: Sequence[nn.Parameter]) -> AbstractContextManager:
    """Within it parameters of ZeRO 3 are whole; every rank must enter it. Of the other stages they are anyway."""
    return deepspeed.zero.GatheredParameters(list(parameters))


def held_tensors(engine: deepspeed.DeepSpeedEngine) -> Iterator[Tensor]:
    """What the engine keeps from step to step: weights, buffers, gradients, the optimizer's tensors; some twice."""
    engine.empty_partition_cache()
    return tensors_in(list(engine.module.parameters()), list(engine.module.buffers()), engine.optimizer)


def take_states(engine: deepspeed.DeepSpeedEngine, directory: Path) -> dict[str, Any]:
    """What DeepSpeed saves on this rank: name below `directory` -> its content, as copies in host memory.

    Of a model with adapters its frozen weights are left out. Collective. DeepSpeed makes its folders, and copies its
    scripts, in `directory`.
    """
    left_out = frozen_names(engine.module) if has_adapters(engine.module) else frozenset()
    engine.checkpoint_engine.left_out = left_out
    engine.save_checkpoint(str(directory), tag=TAG, save_latest=False, exclude_frozen_parameters=bool(left_out))
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
    load = _load_shared if shared else _load_own
    try:
        path, _ = engine.load_checkpoint(str(directory), tag=TAG, custom_load_fn=load)
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
        self.left_out: frozenset[str] = frozenset()
        """Weights that are not taken; DeepSpeed itself keeps those that are tied to one it leaves out."""

    def save(self, state_dict: Any, path: str) -> None:
        module = state_dict.get("module")
        if module is not None and self.left_out:
            state_dict = state_dict | {"module": {n: value for n, value in module.items() if n not in self.left_out}}
        self.taken[Path(path)] = host_copy(state_dict)

    def load(self, path: str, map_location: Any = None) -> Any:
        return self.read(Path(path))


def _load_shared(src: dict[str, Tensor], dst: nn.Module) -> None:
    """Load a state dict that is mapped from a file: only rank 0 touches its tensors, the others are sent them."""
    if dist.get_rank() == 0:
        _load_own(src, dst)
    if dist.get_world_size() > 1:
        held = dst.state_dict()
        for name in src:
            dist.broadcast(held[name], 0)


def _load_own(src: dict[str, Tensor], dst: nn.Module) -> None:
    """What a checkpoint leaves out is frozen, and came from the model's own folder."""
    missing, unexpected = dst.load_state_dict(src, strict=False)
    absent = set(missing) - frozen_names(dst) if has_adapters(dst) else missing
    if absent or unexpected:
        raise CheckpointError(f"its weights are not this model's: {sorted([*absent, *unexpected])[0]} is in one alone")
