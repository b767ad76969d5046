"""Teach vLLM our multimodal models, and a kernel of its own that it leaves out on a CPU.

vLLM's start -> **registration** -> `rollout.vllm.pangu_vl`, once a model needs it, and `rollout.vllm.cpu_layers`.

vLLM calls `register` in each of its processes (entry point `vllm.general_plugins`), sometimes more than once.
"""

from __future__ import annotations

CLASSES = {
    "PanguVLForConditionalGeneration": "VllmPanguVL",
    "MindVLForConditionalGeneration": "VllmMindVL",
    # The released checkpoints' own, in place of vLLM's, which needs torchvision and flash attention.
    "OpenPanguVLForConditionalGeneration": "VllmPanguVL",
}
"""Architecture, as a checkpoint's config.json names it -> class of `rollout.vllm.pangu_vl`."""


def register() -> None:
    """Register configurations, processors and model classes; the latter by path, so that they are loaded on demand."""
    from vllm import ModelRegistry
    from vllm.platforms import current_platform

    from pretrain.auto import register_auto_classes

    register_auto_classes()
    for architecture, name in CLASSES.items():
        ModelRegistry.register_model(architecture, f"rollout.vllm.pangu_vl:{name}")
    if current_platform.is_cpu():
        # Imported for what it registers; a second import does nothing.
        import rollout.vllm.cpu_layers  # noqa: F401
