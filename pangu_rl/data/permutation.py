"""A seeded order over N rows that needs no list of them: **place -> row number**, one to one.

A Feistel network over the next power of four, walked until it lands below N (Black and Rogaway, "Ciphers with Arbitrary
Finite Domains", 2002): at most four steps on average, each row exactly once, by construction.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LISTED = 2**20
"""Rows up to which the order is numpy's permutation, in memory."""
ROUNDS = 8


class FeistelOrder:
    """Slices of it, and what it has at given places, are int64 arrays."""

    def __init__(self, rows: int, key: Sequence[int]) -> None:
        """`key` seeds it, as it seeds numpy's generators."""
        self._rows = rows
        self._half = max(1, -(-(rows - 1).bit_length() // 2))
        self._keys = np.random.SeedSequence(list(key)).generate_state(ROUNDS, np.uint64)

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, places: slice | np.ndarray) -> np.ndarray:
        if isinstance(places, slice):
            places = np.arange(*places.indices(self._rows))
        found = self._stepped(places.astype(np.uint64))
        while (beyond := found >= self._rows).any():
            found[beyond] = self._stepped(found[beyond])
        return found.astype(np.int64)

    def _stepped(self, values: np.ndarray) -> np.ndarray:
        half, mask = np.uint64(self._half), np.uint64((1 << self._half) - 1)
        left, right = values >> half, values & mask
        for key in self._keys:
            left, right = right, left ^ (_mixed(right ^ key) & mask)
        return left << half | right


Order = np.ndarray | range | FeistelOrder
"""Place -> row number, by slices."""


def order_of(rows: int, key: Sequence[int]) -> Order:
    """A permutation of `rows` by `key`: of few rows numpy's, as a list."""
    return np.random.default_rng(tuple(key)).permutation(rows) if rows <= LISTED else FeistelOrder(rows, key)


def _mixed(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014): every bit depends on every other."""
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)
