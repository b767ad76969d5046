"""`--where`: text from a user -> **one SQL condition over the store's columns**, or a line that says what is wrong.

DuckDB's own parser reads it; nothing is pasted into a query that is not one expression. It sees one row at a time, and
the same rows always give the same answer: subqueries, windows, clocks and random numbers are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
from rapidfuzz import process

from pangu_rl.errors import ConfigError

_CLOCK = {
    "now", "today", "transaction_timestamp", "txid_current", "current_setting", "getvariable", "age",
    "current_date", "current_localtime", "current_localtimestamp", "get_current_time", "get_current_timestamp",
}  # fmt: skip
"""Functions that DuckDB calls constant within a query and that differ from one to the next."""


def checked_where(connection: duckdb.DuckDBPyConnection, text: str, columns: Sequence[str]) -> str:
    """`text` as an expression that may stand in a query over `rollouts`, whose columns are `columns`.

    Raises:
        ConfigError: not one condition, or one that names no column.
    """
    origin = f"--where {text!r}"
    try:
        expression = str(duckdb.SQLExpression(text))
        tree = json.loads(_value(connection, "SELECT json_serialize_sql($1)", f"SELECT {expression}"))
    except duckdb.Error as error:
        raise ConfigError(f"{origin}: not one SQL condition: {first_line(error)}") from None
    nodes = list(_nodes(tree))
    _refuse(origin, nodes, _volatile(connection))
    for name in _names(nodes):
        if name.lower() not in {column.lower() for column in columns}:
            raise ConfigError(f"{origin}: no column {name!r}: {nearest(name, columns)}")
    try:
        kind = _value(connection, f"SELECT typeof(any_value({expression})) FROM (FROM rollouts LIMIT 1) AS rollouts")
    except duckdb.Error as error:
        raise ConfigError(f"{origin}: {first_line(error)}") from None
    if kind != "BOOLEAN":
        raise ConfigError(f"{origin}: is {kind}, not true or false: compare it with something")
    return expression


def nearest(name: str, known: Sequence[str]) -> str:
    """What a user may have meant, as the end of a message."""
    near = [found for found, _, _ in process.extract(name.lower(), known, limit=3, score_cutoff=60)]
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"


def _refuse(origin: str, nodes: Sequence[dict[str, Any]], volatile: set[str]) -> None:
    for node in nodes:
        if node["class"] in ("SUBQUERY", "WINDOW", "STAR", "PARAMETER"):
            raise ConfigError(f"{origin}: holds a {node['class'].lower()}; it is asked of each row alone")
        if node["class"] == "FUNCTION" and node["function_name"] in volatile:
            raise ConfigError(f"{origin}: {node['function_name']}() is not the same every time; an export must be")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        if "class" in tree:
            yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def _names(nodes: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Columns that are named; the parameters of lambdas are none."""
    bound = {
        name
        for node in nodes
        if node["class"] == "LAMBDA"
        for left in _nodes(node["lhs"])
        for name in left.get("column_names", ())
    }
    for node in nodes:
        if node["class"] == "COLUMN_REF":
            first, *rest = node["column_names"]
            name = rest[0] if first == "rollouts" and rest else first
            if name not in bound:
                yield name


def _volatile(connection: duckdb.DuckDBPyConnection) -> set[str]:
    query = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE stability = 'VOLATILE'"
    return _CLOCK | {name for (name,) in connection.execute(query).fetchall()}


def _value(connection: duckdb.DuckDBPyConnection, query: str, *parameters: str) -> Any:
    row = connection.execute(query, parameters).fetchone()
    return row[0] if row else None


def first_line(error: Exception) -> str:
    """The first line: the others point into a query that the user has not written."""
    return str(error).splitlines()[0].partition("Error: ")[2] or str(error).splitlines()[0]
