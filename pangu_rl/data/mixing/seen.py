"""What a stage has trained on so far, by source: **samples, tokens and shares as seen** -> metrics, report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

NAMED = 32
"""Sources that have metrics of their own; further ones are `others`."""


@dataclass(slots=True)
class Seen:
    """Counts by source."""

    samples: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    """Pictures' with them."""

    @classmethod
    def of(cls, samples: Iterable[tuple[str, int]]) -> Seen:
        """Of samples by source and tokens."""
        found = cls()
        for source, tokens in samples:
            found.count(source, tokens)
        return found

    def count(self, source: str, tokens: int) -> None:
        """One sample more."""
        self.samples[source] += 1
        self.tokens[source] += tokens

    def __add__(self, other: Seen) -> Seen:
        return Seen(self.samples + other.samples, self.tokens + other.tokens)

    def metrics(self) -> dict[str, float]:
        """`data/samples/<source>`, and where there are several sources `data/share/<source>`, of all tokens, and
        `data/sample_share/<source>`."""
        found: dict[str, float] = {}
        samples, tokens = _largest(self.samples, self.samples), _largest(self.tokens, self.samples)
        for source in samples:
            found[f"data/samples/{source}"] = float(samples[source])
            if len(samples) > 1:
                found[f"data/share/{source}"] = tokens[source] / max(1, self.tokens.total())
                found[f"data/sample_share/{source}"] = samples[source] / self.samples.total()
        return found

    def state_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"samples": dict(self.samples), "tokens": dict(self.tokens)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Seen:
        return cls(Counter(state["samples"]), Counter(state["tokens"]))


def _largest(counts: Mapping[str, int], samples: Mapping[str, int]) -> dict[str, int]:
    """By name; those of the sources with the fewest samples together, and of rows without a source under `all`."""
    ranked = sorted(samples, key=lambda source: (-samples[source], source))
    named = {source or "all": counts[source] for source in sorted(ranked[:NAMED])}
    others = sum(counts[source] for source in ranked[NAMED:])
    return named | ({"others": others} if len(ranked) > NAMED else {})
