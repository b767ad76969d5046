"""Vision-only pre-training: how an embedding is told from the centres of classes."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from pangu_rl.config.base import Strict


class ClusterLossConfig(Strict):
    scale: PositiveFloat = 64.0
    """Factor on the cosine of embedding and centre."""
    margin: NonNegativeFloat = 0.0
    """Added to the angle to a positive, in radians; 0.3 in the text-aware stage (RICE)."""
    rate: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    """Share of the classes that are negatives of a step."""
    draw: Literal["mlcd", "rice", "partial_fc"] = "mlcd"
    """What `rate` is a share of, and what is drawn. `mlcd`: of a sample's negatives (all classes but its own). `rice`:
    of all classes, again drawn from the sample's negatives. `partial_fc`: of all classes, with every positive of the
    global batch among them, so that positives of other samples are always negatives; when these alone are more,
    nothing else is drawn."""
    seed: NonNegativeInt = 0
    """Of the draw, which is new at every step and the same whatever the number of ranks."""
