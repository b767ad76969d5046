"""What an operator is, and the two kinds of them.

A **row operator** is a pure function on a record (or, with `batch`, on a list of records), which keeps, drops, edits or
annotates it:

    @row_operator(cost="cpu")
    def short(record: Record, *, least_chars: int = 20) -> Verdict:
        ...

A **set operator** needs all rows at once: `features` reads a few numbers from each, wherever it lies, and the function
decides over these, in memory that does not grow with the rows:

    @set_operator(features=length, schema=pa.schema([("chars", pa.int64())]))
    def longest(rows: Features, *, keep: int) -> Iterator[tuple[int, Verdict]]:
        ...

What stands behind the `*` are its settings; their types are checked before anything runs.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_type_hints

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ConfigDict, create_model

from data_curation.pipeline.record import Record
from pangu_rl.config.base import Strict
from pangu_rl.config.curate import OperatorConfig
from pangu_rl.config.load import checked
from pangu_rl.config.paths import resolve_path
from pangu_rl.data.files.webdataset import MEDIA
from pangu_rl.data.index.files import content_digest
from pangu_rl.errors import ConfigError, UserError
from rollout.export.catalogue import literal

Cost = Literal["cpu", "model", "endpoint"]
OPERATORS = "data_curation.operators."
_MARK = "__curation_operator__"
_MEDIA = sum(MEDIA.values(), ())


@dataclass(frozen=True, slots=True)
class Features:
    """What a set operator read from all rows: a DuckDB view `features` with the columns of its schema, and `position`
    (BIGINT), which grows in the order of the rows."""

    connection: duckdb.DuckDBPyConnection
    scratch: Path
    """A folder for what memory does not hold."""

    files: tuple[str, ...]
    """Of Parquet, a block of rows each, in their order."""
    told: list[dict[str, Any]] = field(default_factory=list)
    """What was found of all rows, a row of a table for the report each; the operator fills it."""

    def count(self) -> int:
        """Rows that have features."""
        return sum(pq.read_metadata(file).num_rows for file in self.files)

    def tables(self, columns: str = "*", rows: int = 4096) -> Iterator[pa.Table]:
        """In the order of the rows, block by block, since sorting all of them is another pass over what is large."""
        for file in self.files:
            query = f"SELECT {columns} FROM read_parquet({literal(file)}) ORDER BY position"
            for batch in self.connection.cursor().sql(query).to_arrow_reader(rows):
                yield pa.Table.from_batches([batch])


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What the decorator says of a function."""

    cost: Cost
    batch: int | None = None
    guarded: bool = False
    features: Callable[..., Any] | None = None
    schema: pa.Schema | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """An operator of a pipeline, with its settings."""

    name: str
    """Unique in its pipeline; the second `language` is `language~2`."""
    config: OperatorConfig
    """What it was made of; it travels to other processes."""
    function: Callable[..., Any]
    declared: Declared
    settings: Mapping[str, Any]
    """All of them, defaults included."""

    @property
    def over_all(self) -> bool:
        """Whether it is a set operator."""
        return self.declared.features is not None

    @property
    def cost(self) -> Cost:
        return self.declared.cost

    def read(self, records: Sequence[Record]) -> list[Mapping[str, Any] | None]:
        """Features of a set operator; None of a row that it passes over."""
        assert self.declared.features is not None
        args = {key: self.settings[key] for key in _settings_of(self.declared.features)}
        if (size := self.declared.batch) is None:
            return [self.declared.features(record, **args) for record in records]
        batches = (list(records[start : start + size]) for start in range(0, len(records), size))
        return [found for batch in batches for found in self.declared.features(batch, **args)]

    def identity(self) -> dict[str, Any]:
        """What decides its results: name, settings, the content of its own file, of the helpers among operators that it
        imports, and of the files and folders that it names."""
        function = inspect.unwrap(self.function)
        file = inspect.getsourcefile(function)
        named = {text: found for text in _texts(self.settings) if (found := named_content(text)) is not None}
        found = {"name": self.name, "args": dict(self.settings), "code": _digest(Path(file)) if file else ""}
        helpers = {name: _digest(Path(path)) for name, path in _helpers(function.__module__)}
        return found | ({"helpers": helpers} if helpers else {}) | ({"files": named} if named else {})


def row_operator(
    *, cost: Cost, batch: int | None = None, guarded: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a function of a record, or of up to `batch` records, which then returns a list of as many verdicts.

    One that is `guarded` runs in a child of the worker (`guarded.py`): a record that ends the process ends that alone.
    """
    if guarded and (batch or cost != "cpu"):
        raise TypeError("a guarded operator takes one record at a time, on the processor")
    return _marked(Declared(cost=cost, batch=batch, guarded=guarded))


def set_operator(
    *, features: Callable[..., Any], schema: pa.Schema, cost: Cost = "cpu", batch: int | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a function of `Features` that yields (position, verdict) of the rows it does not simply keep.

    `features` is a function of a record, or of up to `batch` records, then to a list, with those of the settings that
    it names; `cost` is its cost. It gives a mapping with the columns of `schema`, or None.
    """
    return _marked(Declared(cost=cost, batch=batch, features=features, schema=schema))


def declared(function: Any) -> Declared | None:
    """What was said of `function`, or None of one that is no operator."""
    return getattr(function, _MARK, None)


def bound(name: str, function: Callable[..., Any], declaration: Declared, config: OperatorConfig) -> Operator:
    """`function` with the settings of `config`.

    Raises:
        ConfigError: settings that are missing, unknown, or of a wrong type.
    """
    hints = get_type_hints(function, include_extras=True)
    fields = {
        parameter.name: (
            hints.get(parameter.name, Any),
            ... if parameter.default is inspect.Parameter.empty else parameter.default,
        )
        for parameter in _settings_of(function).values()
    }
    model = create_model("Settings", __base__=_Settings, **fields)
    model.model_config = ConfigDict(**_Settings.model_config)
    settings = checked(model, dict(config.args), f"operator {name}").model_dump(mode="python")
    return Operator(name=name, config=config, function=function, declared=declaration, settings=settings)


class _Settings(Strict):
    """An operator may take infinity for no limit."""

    model_config = ConfigDict(allow_inf_nan=True)


@cache
def _settings_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        raise ConfigError(f"operator {function.__name__}: takes any setting (**): name each, so that it can be checked")
    return {key: value for key, value in parameters.items() if value.kind is inspect.Parameter.KEYWORD_ONLY}


def _helpers(module: str) -> list[tuple[str, str]]:
    """Name and file of each module of operators that `module` has something of, or that such a one has."""
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        loaded = sys.modules.get(waiting.pop())  # none of a user's file
        for value in vars(loaded).values() if loaded else ():
            name = str(getattr(value, "__module__", ""))
            if name.startswith(OPERATORS) and name not in (module, *found):
                found[name] = str(sys.modules[name].__file__)
                waiting.append(name)
    return sorted(found.items())


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for item in value.values() for text in _texts(item))
    elif isinstance(value, list | tuple):
        yield from (text for item in value for text in _texts(item))


def named_content(text: str) -> str | None:
    """Digest of the file that a setting names, `model.py:function` among them, or of the files that lie in a folder but
    for pictures and videos, which are too many; None of text that names neither."""
    try:
        path = Path(text.rpartition(":")[0]) if ".py:" in text else resolve_path(text)
        if path.is_file():
            return _digest(path)
        if not text.strip("./~") or not path.is_dir():  # signs such as "/" are folders too
            return None
        files = (file for file in sorted(path.iterdir()) if file.is_file() and file.suffix.lower() not in _MEDIA)
        listed = json.dumps([(file.name, content_digest(file)) for file in files])
        return hashlib.sha256(listed.encode()).hexdigest()[:16]
    except (UserError, OSError, RuntimeError, ValueError):  # an address, too long a name, `~nobody`, a NUL
        return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _marked(declaration: Declared) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        setattr(function, _MARK, declaration)
        return function

    return mark
