"""Tell transformers' Auto classes of our models and processors."""

from __future__ import annotations


def register_auto_classes() -> None:
    """Register configurations, models and processors; again does no harm."""
    from transformers import (
        AutoConfig,
        AutoImageProcessor,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        AutoProcessor,
    )

    from pretrain.models.configuration import MindVLConfig, PanguVLConfig
    from pretrain.models.mindvl import MindVLForConditionalGeneration
    from pretrain.models.pangu_vl import PanguVLForConditionalGeneration
    from pretrain.processing.processor import PanguVLImageProcessor, PanguVLProcessor

    for config, model in (
        (PanguVLConfig, PanguVLForConditionalGeneration),
        (MindVLConfig, MindVLForConditionalGeneration),
    ):
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModelForCausalLM.register(config, model, exist_ok=True)
        AutoModelForImageTextToText.register(config, model, exist_ok=True)
        AutoProcessor.register(config, PanguVLProcessor, exist_ok=True)
        AutoImageProcessor.register(config, slow_image_processor_class=PanguVLImageProcessor, exist_ok=True)
