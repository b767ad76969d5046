"""Two traces -> **mean absolute and relative error of each entry**, and the first that differs: MindVL's gate (4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pangu_rl.errors import DataError
from pangu_rl.learner.precision.trace import GRADIENT, Trace

LIMIT = 5e-3
"""Of both errors: "within five thousandths"."""
NO_LOSS = 1e-6
"""A loss of this size is rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    name: str
    mae: float
    """Mean of |a - b|."""
    mre: float
    """Mean of |a - b| over the mean of |a|: values near 0 have no relative error of their own."""
    finite: bool
    """Whether both sides are."""

    @property
    def is_gradient(self) -> bool:
        return self.name.startswith(GRADIENT)

    def beyond(self, limit: float) -> bool:
        """A gradient is small as a whole, so only its relative error counts."""
        return not self.finite or self.mre > limit or (self.mae > limit and not self.is_gradient)


def differences(one: Trace, other: Trace) -> list[Difference]:
    """One for each entry, in order.

    Raises:
        DataError: the traces have other entries, or entries of other shapes: they are of two models or other tokens.
    """
    if only := sorted(one.keys() ^ other.keys()):
        raise DataError(f"{only[0]!r} is in one of the traces alone, of {len(only)} such: are both of one model?")
    return [_difference(name, one, other) for name in one]


def first_beyond(found: Sequence[Difference], limit: float) -> Difference | None:
    """The first of the forward pass that differs; without one, the first gradient."""
    return next((one for one in found if one.beyond(limit)), None)


def curves_apart(one: Sequence[float], other: Sequence[float]) -> float:
    """The greatest of |a - b| / |a| over the steps. Of losses that are not all above 0 a step's own size says nothing:
    they are compared with the mean of |a|.

    Example: losses 2.0, 1.0 and 2.02, 0.99 are 1 % apart; -2.0, 1.0 and -2.0, 1.03
    are 2 %.

    Raises:
        DataError: the losses of `one` are as good as 0, such as GRPO's with one update a step.
    """
    mean = sum(map(abs, one)) / len(one)
    if mean < NO_LOSS:
        raise DataError(f"the losses of the first run are {mean:.1g} in the mean: there is nothing to compare with")
    sizes = [abs(left) if min(one) > 0 else mean for left in one]
    return max(abs(left - right) / size for left, right, size in zip(one, other, sizes, strict=True))


def _difference(name: str, one: Trace, other: Trace) -> Difference:
    left, right = one[name], other[name]
    if left.shape != right.shape:
        raise DataError(
            f"{name!r} is {tuple(left.shape)} and {tuple(right.shape)}: are both traces of the same tokens?"
        )
    apart, size = (left - right).abs().mean(), left.abs().mean()
    finite = bool(left.isfinite().all() and right.isfinite().all())
    mre = float(apart / size) if size > 0 else float(apart > 0)
    return Difference(name=name, mae=float(apart), mre=mre, finite=finite)
