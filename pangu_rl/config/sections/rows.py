"""How the rows of data files are read."""

from typing import Literal

from pydantic import Field, PositiveFloat, field_validator, model_validator

from pangu_rl.config.base import Strict
from pangu_rl.config.sections.packing import Share, require_shares


class RowsConfig(Strict):
    """What every stage that reads rows has in its section `data`."""

    format: Literal["auto", "pangu", "trl", "sharegpt", "alpaca", "verl", "easyr1", "ms_swift", "openai"] = "auto"
    """Whose columns the files have. `auto` tells it by the first row of each file and says so in the log; a file
    `.../dataset_info.json#NAME` is read as LLaMA-Factory describes it there."""
    columns: dict[str, str] = Field(default_factory=dict)
    """The file's name of a column -> the name that is known, such as `picture: images`."""
    pass_through: tuple[str, ...] = ()
    """Columns, and keys of messages, that look like media, tools or text to train on and are meant to be unused. Reward
    functions see the columns."""

    @field_validator("columns")
    @classmethod
    def names_are_of_one_column(cls, columns: dict[str, str]) -> dict[str, str]:
        """Of two columns under one name one would be lost."""
        theirs: dict[str, str] = {}
        for name, ours in columns.items():
            if (other := theirs.setdefault(ours, name)) != name:
                raise ValueError(
                    f"{other} and {name} are both mapped to {ours}, and a row has one column of a name: map one of "
                    "them, or join the two in the file"
                )
        return columns


class InspectedRowsConfig(RowsConfig):
    """What `pangu-rl inspect` is told of the section `data` of a stage."""

    media_root: str | None = None
    turns: Literal["all", "last"] = "all"
    reasoning: Literal["keep", "strip"] = "keep"


class FileConfig(Strict):
    path: str
    weight: PositiveFloat = 1.0
    """How many times an epoch has each row: 2 has it twice, 0.5 has every second one."""


class TrainedRowsConfig(RowsConfig):
    """Of the stages that train on rows of files."""

    also: tuple[FileConfig, ...] = ()
    """Further files beside `train`, each with a weight; ids are unique over all of them."""
    shares: dict[str, Share] = Field(default_factory=dict)
    """Per `source` of the rows, on any scale, 0 leaves one out; rows without a source have the name of their file. The
    source that has most for its share comes once an epoch, the others as often as gives them theirs. Without shares
    each row comes once. Shares that are all below 1 add up to 1."""
    shares_by: Literal["samples", "tokens"] = "samples"
    """What the shares are of. By tokens all rows are read before the start."""

    @model_validator(mode="after")
    def shares_are_whole(self) -> "TrainedRowsConfig":
        require_shares("data.shares", self.shares)
        if self.shares_by == "tokens" and not self.shares:
            raise ValueError("data.shares_by is tokens without data.shares: give each source one")
        if self.shares and (weighed := next((file for file in self.also if file.weight != 1), None)):
            raise ValueError(
                f"data.also gives {weighed.path} the weight {weighed.weight:g} beside data.shares: leave one out"
            )
        return self
