"""Replies and tokens spent, in one SQLite file: shared by all workers, and still there after a kill.

Only replies that were a verdict are kept, so what failed is asked again. No text of an item is stored, only its hash.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from pangu_rl.errors import ConfigError, RunError

LOCK_WAIT_S = 30.0
_TABLES = """
CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, scorer TEXT NOT NULL, text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent (scorer TEXT PRIMARY KEY, tokens INTEGER NOT NULL) WITHOUT ROWID;
"""


class ReplyCache:
    """Used by one thread."""

    def __init__(self, path: Path) -> None:
        """Raises `ConfigError`: the file cannot be made, or is no SQLite file."""
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None)
            self._database.executescript(_TABLES)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"scorers.cache {path}: cannot be used: {error}; name another file") from None

    def reply(self, key: str) -> str | None:
        row = self._run("SELECT text FROM replies WHERE key = ?", key).fetchone()
        return row[0] if row else None

    def keep(self, key: str, scorer: str, text: str) -> None:
        self._run("INSERT OR REPLACE INTO replies VALUES (?, ?, ?)", key, scorer, text)

    def spend(self, scorer: str, tokens: int) -> None:
        self._run(
            "INSERT INTO spent VALUES (?, ?) ON CONFLICT (scorer) DO UPDATE SET tokens = tokens + excluded.tokens",
            *(scorer, tokens),
        )

    def spent(self, scorer: str) -> int:
        """Tokens that `scorer` has cost since the file was made."""
        row = self._run("SELECT tokens FROM spent WHERE scorer = ?", scorer).fetchone()
        return row[0] if row else 0

    def close(self) -> None:
        self._database.close()

    def _run(self, statement: str, *values: str | int) -> sqlite3.Cursor:
        try:
            return self._database.execute(statement, values)
        except (sqlite3.Error, OverflowError) as error:
            raise RunError(f"scorers.cache {self._path}: {error}") from None
