"""Reward functions and how they add up."""

from typing import Annotated, Any

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from pangu_rl.config.base import Arguments, Strict
from pangu_rl.config.secrets import first_secret


class RewardFunctionConfig(Strict):
    name: str
    """A built-in name (`boxed_accuracy`, `boxed_format`, `grounding`, ...), an installed entry point of group
    `pangu_rl.rewards`, or `path/to/file.py:function`."""
    weight: float = 1.0
    args: Arguments = Field(default_factory=dict)
    """Keyword arguments bound to the function."""

    @field_validator("args")
    @classmethod
    def args_hold_no_secret(cls, args: dict[str, Any]) -> dict[str, Any]:
        # The value is not repeated: whoever wrote a key here must not find it in a log as well.
        if (name := first_secret(args)) is not None:
            raise ValueError(
                f"{name} looks like a secret, and a configuration is copied and shown: have the function read it from "
                "an environment variable, and name that one (such as api_key_env)"
            )
        return args

    isolated: bool = False
    """Run it in killable child processes without API keys: for plugins that may hang, eat memory or end their process.
    It is imported there alone."""


class RewardsConfig(Strict):
    functions: tuple[RewardFunctionConfig, ...] = (
        RewardFunctionConfig(name="boxed_accuracy"),
        RewardFunctionConfig(name="boxed_format", weight=0.1),
    )
    """The first one decides a completion's outcome and the evaluation's accuracy."""
    workers: PositiveInt = 1
    timeout_s: PositiveFloat = 30.0
    """Deadline of one score; past it the row has no verdict."""
    max_no_verdict_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05
    """Above this share of rows without a verdict in a step, the run stops and names them."""

    @model_validator(mode="after")
    def names_are_unique(self) -> "RewardsConfig":
        names = [f.name for f in self.functions]
        if not names:
            raise ValueError("functions is empty: name at least one, e.g. boxed_accuracy")
        if len(set(names)) < len(names):
            raise ValueError(f"functions are listed twice in {names}: give each one entry")
        return self
