"""Teach vLLM our multimodal models, our pictures to its own, and kernels for a CPU.

vLLM's start -> **registration** -> `rollout.vllm.pangu_vl` or `rollout.vllm.families`, once a model needs one, and
`rollout.vllm.cpu_attention` and `rollout.vllm.cpu_layers`.

vLLM calls `register` in each of its processes (entry point `vllm.general_plugins`), sometimes more than once.
"""

from __future__ import annotations

from itertools import chain

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
    from pretrain.families import FAMILIES

    register_auto_classes()
    for architecture, name in CLASSES.items():
        ModelRegistry.register_model(architecture, f"rollout.vllm.pangu_vl:{name}")
    for architecture in chain(*(family.served for family in FAMILIES)):
        ModelRegistry.register_model(architecture, "rollout.vllm.families:VllmFamily")
    if current_platform.is_cpu():
        # Imported for what it registers; a second import does nothing.
        import rollout.vllm.cpu_attention
        import rollout.vllm.cpu_layers  # noqa: F401
