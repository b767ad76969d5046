"""Many texts at once -> **language and confidence of each**, by py3langid's model and its arithmetic.

The library walks an automaton over one text's bytes in Python. Here numpy walks it over all texts of a batch, in lanes
side by side, which is the same since a state depends on few bytes before it: it is a tree of n-grams, with the links of
Aho and Corasick (1975) from each to its longest known ending.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from py3langid.langid import MODEL_FILE, LanguageIdentifier

MEMORY = 8
"""Bytes that a state depends on, at most: n-grams of py3langid 0.4 have six."""
LANES = 1024
NOWHERE = 0xFF
"""A byte that UTF-8 never has: it leads to the first state, so that no text reads on from the one before it."""


@dataclass(frozen=True, slots=True)
class Languages:
    """Arrays of the model; loading them takes a second, and they take 100 MiB."""

    classes: list[str]
    """Code of each column."""
    twice: dict[int, int]
    """Column -> an earlier one of the same code."""
    moves: np.ndarray
    """uint32 [rows * 256], the next state; states share rows."""
    rows: np.ndarray
    """int64 [states], where the row of each begins in `moves`."""
    features: np.ndarray
    """int32 [states], the number of the n-gram that ends there, or -1."""
    weights: np.ndarray
    """float32 [features, classes]."""
    priors: np.ndarray
    """float32 [classes]."""

    def classify(self, texts: Sequence[str]) -> Iterator[tuple[str, float]]:
        """Code and probability of each text's likeliest language."""
        encoded = [_encoded(text) for text in texts]
        for raw, (features, counts) in zip(encoded, self._counted(encoded), strict=True):
            scores = np.zeros(len(self.classes), np.float32)
            if len(features):
                scores = np.log1p(counts.astype(np.float32)) @ self.weights.take(features, axis=0) + self.priors
            # The library's temperature, the root of the bytes, by which long texts are not always sure.
            scores /= max(1, len(raw)) ** 0.5
            shares = np.exp(scores - scores.max())
            for at, first in self.twice.items():
                shares[first] += shares[at]
                shares[at] = 0.0
            best = int(shares.argmax())
            yield self.classes[best], float(shares[best] / shares.sum())

    def _counted(self, encoded: Sequence[bytes]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Of each text the n-grams that it has, and how often."""
        found = self._walked(b"".join(raw + bytes([NOWHERE]) for raw in encoded))
        owners = np.repeat(np.arange(len(encoded)), [len(raw) + 1 for raw in encoded])
        known = found >= 0
        keys = np.sort(owners[known] * len(self.weights) + found[known])
        firsts = np.flatnonzero(np.diff(keys, prepend=-1))
        counts = np.diff(firsts, append=len(keys))
        owners, features = np.divmod(keys[firsts], len(self.weights))
        ends = np.searchsorted(owners, np.arange(len(encoded) + 1))
        return ((features[begin:end], counts[begin:end]) for begin, end in pairwise(ends))

    def _walked(self, content: bytes) -> np.ndarray:
        """int32 [bytes]: number of the n-gram that ends at each byte, or -1."""
        length = -(-len(content) // LANES)
        padded = np.full(MEMORY + LANES * length, NOWHERE, np.uint8)
        padded[MEMORY : MEMORY + len(content)] = np.frombuffer(content, np.uint8)
        lanes = np.lib.stride_tricks.sliding_window_view(padded, MEMORY + length)[::length]
        state, found = np.zeros(LANES, np.int64), np.empty((length, LANES), np.int32)
        for step, column in enumerate(np.ascontiguousarray(lanes.T)):
            state = self.moves.take(self.rows.take(state) + column)
            if step >= MEMORY:
                found[step - MEMORY] = self.features.take(state)
        return found.T.reshape(-1)[: len(content)]


@cache
def languages() -> Languages:
    """One of a process."""
    model = LanguageIdentifier.from_model_file(MODEL_FILE)
    classes = list(model.nb_classes)
    return Languages(
        classes=classes,
        twice={at: first for at, code in enumerate(classes) if (first := classes.index(code)) < at},
        moves=np.frombuffer(model.tk_nextmove, np.dtype(model.tk_nextmove.typecode)),
        rows=np.asarray(model.tk_row, np.int64) << 8,
        features=np.asarray(model.tk_output, np.int32),
        weights=np.asarray(model.nb_ptc, np.float32),
        priors=np.asarray(model.nb_pc, np.float32),
    )


def _encoded(text: str) -> bytes:
    """As the library does it."""
    lowered = text.lower() if text.isupper() else text
    return unicodedata.normalize("NFC", lowered).encode("utf-8", "surrogatepass")
