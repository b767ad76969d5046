"""GSPO (Zheng et al. 2025, arXiv 2507.18071): token log-ratios -> **one ratio per sequence** -> the clip of GRPO.

    s_i = (pi(y_i) / pi_old(y_i)) ^ (1 / |y_i|) = exp(mean over the tokens of log pi - log pi_old)

The length in the exponent keeps s_i near 1 for answers of any length, so its clip range is a thousandth of GRPO's.
Letters: N completions, T tokens.
"""

from __future__ import annotations

from torch import Tensor

from pangu_rl.algorithms.token_ops import sequence_sums


def sequence_log_ratio(log_ratio: Tensor, mask: Tensor, sequence_ids: Tensor | None = None) -> Tensor:
    """log s_i at every token of sequence i, with its gradient; `log_ratio`, float [T] or [N, T], is 0 outside `mask`.

    Sequences as in `token_ops.sequence_index`; each lies whole in the call.
    """
    lengths = sequence_sums(mask.to(log_ratio.dtype), sequence_ids)
    return sequence_sums(log_ratio, sequence_ids) / lengths.clamp(min=1)
