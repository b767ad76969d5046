"""The parent of every schema: unknown keys are refused, values are frozen once loaded."""

from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo, field_validator

from pangu_rl.config.yaml_text import plain

Arguments = Annotated[dict[str, Any], AfterValidator(plain)]
"""Of a function: numbers are numbers, however they are written."""


class Strict(BaseModel):
    """A section of the configuration. A docstring under each field is its documentation (`pangu-rl config show`)."""

    # A number is text where text is wanted, as it is written: a run directory may be called 20261128 or 1.10.
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        validate_default=True,
        coerce_numbers_to_str=True,
        allow_inf_nan=False,
        ser_json_inf_nan="constants",  # in `Arguments`, where they may stand
    )

    @field_validator("*", mode="before")
    @classmethod
    def truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Python counts true as 1, which no one means who writes `lr: true`."""
        if isinstance(value, bool) and not _takes(cls.model_fields[info.field_name].annotation):
            raise ValueError(f"{str(value).lower()} is neither a number nor text: write what is meant")
        return value


def _takes(annotation: Any) -> bool:
    """Whether a truth value is among what `annotation` allows."""
    if annotation is bool or annotation is Any:
        return True
    return any(_takes(part) or isinstance(part, bool) for part in get_args(annotation))
