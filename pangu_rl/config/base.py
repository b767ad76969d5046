"""The parent of every schema: unknown keys are refused, values are frozen once loaded."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A section of the configuration. A docstring under each field is its documentation (`pangu-rl config show`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)
