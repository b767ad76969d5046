"""A multimodal model of parts: which config, whose tower, connector and language model, and what is shown to it."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt, model_validator

from pangu_rl.config.base import Strict
from pangu_rl.config.paths import RunDir
from pangu_rl.config.sections.pixels import Area, PixelRange


class AssembleTrainerConfig(Strict):
    run_dir: RunDir
    """The model goes into its folder `model`."""
    seed: NonNegativeInt = 0
    """Of the parts that start at random."""


class RopeConfig(Strict):
    """How the frequencies of the rotary embedding are dealt to time, rows and columns (openPangu-VL, figure 5(b))."""

    sections: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt]
    """Frequencies of each, half a head's size together. Without any of time, rows and columns alone tell places: 2D;
    interleaved, the lowest frequency is of time even then, as in vLLM's module, which hardly turns."""
    interleaved: bool
    """Dealt out evenly (openPangu-VL), or a run of frequencies for each axis (Qwen2.5-VL)."""


class FramesConfig(Strict):
    """How large the frames of videos are shown (openPangu-VL, 2.4 and figure 5(a)), in pixels. With equal least and
    greatest areas every frame has that one, however many there are."""

    total_pixels: PositiveInt = 11_239_424
    """Of all frames of a sample together."""
    frame_min_pixels: Area = 100_352
    frame_max_pixels: PositiveInt = 200_704

    @model_validator(mode="after")
    def a_frame_fits(self) -> FramesConfig:
        if self.frame_min_pixels > min(self.frame_max_pixels, self.total_pixels):
            raise ValueError(
                f"frame_min_pixels {self.frame_min_pixels} exceeds frame_max_pixels {self.frame_max_pixels} or "
                f"total_pixels {self.total_pixels}: lower the first"
            )
        return self


class AssembleConfig(PixelRange):
    """openPangu-VL and MindVL before their first stage, and openPangu-VL before its warm-up: a new connector between an
    aligned encoder and the language model. Wherever a folder is named a run directory may stand (the tower of a `vit`
    run, the connector of an alignment, the language model of an SFT), or a name on the hub, `Qwen/Qwen2.5-7B`."""

    shape: str
    """Folder with the `config.json` of the model; no weights are needed there."""
    encoder: str | None = None
    """Model folder whose tower is taken, patch embedding and blocks: of one of our models or of Qwen2.5-VL. Null starts
    it at random."""
    connector: str | None = None
    """Model folder whose mergers, projection and last norm of the tower are taken. Null starts them at random."""
    language: str | None = None
    """Model folder whose language model is taken, a text model or one of ours. Null starts it at random."""
    tokenizer: str
    """Folder whose tokenizer and chat template are taken."""
    processor: str | None = None
    """Folder whose picture sizes are taken; null takes `min_pixels` and `max_pixels`."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    min_pixels: Area = 56**2
    """Least area that a picture is shown at where a stage says nothing; with the next, those of openPangu-VL."""
    max_pixels: PositiveInt = 1344**2
    """Greatest area."""
    frames: FramesConfig = FramesConfig()
    rope: RopeConfig | None = None
    """In place of what the shape says."""
    numbers: Literal["digits", "whole"] | None = None
    """Each digit is a token, or each whole number to 999, `8` and `008` alike, where it stands by itself (openPangu-VL,
    table 5); null is what the tokenizer does. Whole numbers need room in the vocabulary, or a language model that
    starts at random, whose vocabulary grows."""
    trainer: AssembleTrainerConfig

    @model_validator(mode="after")
    def a_processor_has_its_limits(self) -> AssembleConfig:
        if self.processor is not None and {"min_pixels", "max_pixels"} & self.model_fields_set:
            raise ValueError(
                "processor and min_pixels or max_pixels are both set: a processor has its own, leave one out"
            )
        return self
