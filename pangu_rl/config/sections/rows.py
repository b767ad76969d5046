"""How the rows of data files are read."""

from typing import Literal

from pydantic import Field, PositiveFloat

from pangu_rl.config.base import Strict


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


class FileConfig(Strict):
    path: str
    weight: PositiveFloat = 1.0
    """How many times an epoch has each row: 2 has it twice, 0.5 has every second one."""


class TrainedRowsConfig(RowsConfig):
    """Of the stages that train on rows of files."""

    also: tuple[FileConfig, ...] = ()
    """Further files beside `train`, each with a weight; ids are unique over all of them."""
