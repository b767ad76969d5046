"""What we call of vLLM and vllm-ascend, and what their wheels have: sources -> **signatures**, by reading alone."""

from __future__ import annotations

import ast
import json
from pathlib import Path

TABLE = Path(__file__).with_name("vllm_facts.json")
"""Release -> place -> names of the parameters, the fields or the attributes; made by `facts` from that wheel."""

ENGINE, WORKER, RUNNER = (
    f"vllm/v1/{file}"
    for file in (
        "engine/llm_engine.py:LLMEngine",
        "worker/gpu_worker.py:Worker",
        "worker/gpu_model_runner.py:GPUModelRunner",
    )
)
BASE = "vllm/v1/worker/worker_base.py:WorkerBase"
NPU_WORKER = "vllm_ascend/worker/worker.py:NPUWorker"
NPU_RUNNER = "vllm_ascend/worker/model_runner_v1.py:NPUModelRunner"
ARGUMENTS = "vllm/engine/arg_utils.py:EngineArgs"
NPU_SAMPLER = "vllm_ascend/sample/sampler.py:AscendSampler.__init__"

CALLS: dict[str, tuple[str, ...]] = {
    f"{ENGINE}.from_engine_args": ("engine_args",),
    f"{ENGINE}.add_request": ("request_id", "prompt", "params", "lora_request"),
    f"{ENGINE}.abort_request": ("request_ids",),
    f"{ENGINE}.step": (),
    f"{ENGINE}.has_unfinished_requests": (),
    f"{ENGINE}.get_tokenizer": (),
    f"{ENGINE}.collective_rpc": ("method", "args"),
    f"{ENGINE}.reset_prefix_cache": (),
    f"{ENGINE}.reset_mm_cache": (),
    f"{ENGINE}.reset_encoder_cache": (),
    f"{ENGINE}.sleep": ("level",),
    f"{ENGINE}.wake_up": ("tags",),
    f"{RUNNER}.reload_weights": ("weights_iterator", "is_checkpoint_format"),
    f"{RUNNER}.get_model": (),
    "vllm/v1/sample/sampler.py:Sampler.forward": ("logits", "sampling_metadata"),
    "vllm/config/vllm.py:set_current_vllm_config": ("vllm_config",),
    "vllm/v1/sample/sampler.py:Sampler.__init__": ("logprobs_mode",),
}
"""Functions that the engine and the worker's extension call, with the parameters that they name."""
WORKER_CALLS = {"sleep": ("level",), "wake_up": ("tags",), "reset_mm_cache": (), "reset_encoder_cache": ()}
"""Methods that the engine above asks of a worker by name."""
READ: dict[str, set[str]] = {
    ENGINE: {"output_processor"},
    "vllm/v1/engine/output_processor.py:OutputProcessor": {"request_states"},
    "vllm/v1/engine/output_processor.py:RequestState": {"external_req_id", "detokenizer", "logprobs_processor"},
    "vllm/v1/engine/detokenizer.py:IncrementalDetokenizer": {"output_token_ids", "num_output_tokens"},
    "vllm/v1/engine/logprobs.py:LogprobsProcessor": {"logprobs"},
    RUNNER: {"kv_caches", "sampler"},
    "vllm/config/model.py:ModelConfig": {"logprobs_mode"},
    "vllm/v1/sample/sampler.py:Sampler": {"logprobs_mode"},
    "vllm/v1/sample/metadata.py:SamplingMetadata": {
        "temperature",
        "all_random",
        "top_k",
        "top_p",
        "max_num_logprobs",
        "generators",
    },
    "vllm/v1/outputs.py:SamplerOutput": {"sampled_token_ids", "logprobs_tensors"},
    "vllm/v1/outputs.py:LogprobsTensors": {"logprob_token_ids", "logprobs", "selected_token_ranks"},
}
"""What is read, or given in its place, of vLLM's own objects: answers that are being drawn, caches, the sampler."""
WORKER_ATTRIBUTES = {"model_runner", "device", "rank", "vllm_config"}
NPU_READ = {NPU_RUNNER: {"sampler"}}


def facts(root: Path) -> dict[str, list[str]]:
    """Of the sources below `root`: parameters per function of the calls, fields of EngineArgs, members per worker, and
    which of the attributes that are read a class has."""
    found: dict[str, list[str]] = {}
    named = [*CALLS, *READ, *NPU_READ, BASE, WORKER, NPU_WORKER, NPU_RUNNER, NPU_SAMPLER, ARGUMENTS]
    for place in {name.partition(":")[0] for name in named}:
        if (root / place).exists():
            found |= _of_file(place, ast.parse((root / place).read_text(encoding="utf-8")))
    return dict(sorted(found.items()))


def table() -> dict[str, dict[str, list[str]]]:
    return json.loads(TABLE.read_text(encoding="utf-8"))


def _of_file(place: str, tree: ast.Module) -> dict[str, list[str]]:
    found = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and f"{place}:{node.name}" in CALLS:
            found[f"{place}:{node.name}"] = _parameters(node)
        if not isinstance(node, ast.ClassDef):
            continue
        name = f"{place}:{node.name}"
        methods = {child.name: child for child in node.body if isinstance(child, ast.FunctionDef)}
        called = {*CALLS, NPU_SAMPLER}
        found |= {f"{name}.{m}": _parameters(child) for m, child in methods.items() if f"{name}.{m}" in called}
        if name in {BASE, WORKER, NPU_WORKER}:
            found |= {f"{name}.{m}": _parameters(methods[m]) for m in WORKER_CALLS if m in methods}
            found[f"{name} members"] = sorted(set(methods) | _attributes(node))
        if wanted := (READ | NPU_READ).get(name):
            found[f"{name} read"] = sorted(wanted & (set(methods) | _attributes(node) | set(_fields(node))))
        if name == NPU_RUNNER:
            found[f"{name} bases"] = [ast.unparse(base) for base in node.bases]
        if name == ARGUMENTS:
            found[f"{name} fields"] = _fields(node)
    return found


def _parameters(node: ast.FunctionDef) -> list[str]:
    arguments = node.args
    return [
        a.arg for a in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs] if a.arg not in {"self", "cls"}
    ]


def _fields(node: ast.ClassDef) -> list[str]:
    return [child.target.id for child in node.body if isinstance(child, ast.AnnAssign)]


def _attributes(node: ast.ClassDef) -> set[str]:
    """Names that methods set on `self`."""
    return {
        part.attr
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store) and ast.unparse(part.value) == "self"
    }
