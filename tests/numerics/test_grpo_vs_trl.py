"""Advantages and loss against TRL 1.16's own code: a `GRPOTrainer` without model or data runs its real methods.

Only what would need a model is replaced: the log-probs, the completions and the rewards are given.
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from pangu_rl.algorithms.grpo import group_advantages, grpo_loss
from pangu_rl.algorithms.importance_weights import Correction
from pangu_rl.algorithms.policy_metrics import mean_metrics

GRPOTrainer = pytest.importorskip("trl").GRPOTrainer

MAX_LENGTH = 12
LENGTHS = torch.tensor([12, 3, 7, 1, 9, 12, 5, 4])
MASK = torch.arange(MAX_LENGTH) < LENGTHS[:, None]


class GivenRollouts(GRPOTrainer):
    """TRL's trainer on one process, with the parts that need a model replaced by given tensors."""

    def __init__(self, loss_type: str, *, accumulation: int = 1, scale_rewards: str = "group") -> None:
        self.loss_type, self.scale_rewards = loss_type, scale_rewards
        self.epsilon_low, self.epsilon_high, self.beta = 0.2, 0.28, 0.0
        self.importance_sampling_level, self.top_entropy_quantile = "token", 1.0
        self.given_ids, self.given_sampler_logps = [[1]] * 16, None
        self.max_completion_length, self.num_generations, self.num_generations_eval = MAX_LENGTH, 4, 4
        self.current_gradient_accumulation_steps, self.num_iterations = accumulation, 1
        self.multi_objective_aggregation, self.reward_weights, self.reward_func_names = "sum_then_normalize", None, []
        self.off_policy_mask_threshold = self.environments = self.environment_factories = self.tools = None
        self.pad_to_multiple_of = None
        self.aux_loss_enabled = self._entropy_bonus_enabled = self.mask_truncated_completions = self.use_vllm = False
        self.log_multimodal = False
        self.args = SimpleNamespace(
            delta=None,
            steps_per_generation=accumulation,
            gradient_accumulation_steps=accumulation,
            per_device_train_batch_size=len(LENGTHS),
            gradient_checkpointing_kwargs=None,
        )
        self.accelerator = SimpleNamespace(
            num_processes=1,
            process_index=0,
            device=torch.device("cpu"),
            gather=lambda value: value,
            reduce=lambda value, reduction: value,
        )
        self.model = SimpleNamespace(training=True, is_gradient_checkpointing=False)
        self._tokenizer = SimpleNamespace(pad_token_id=0)
        self._metrics = {"train": defaultdict(list)}
        self._logs = {"prompt": [], "completion": [], "rewards": defaultdict(list), "advantages": []}
        self._pending_extra_logs, self._pending_metrics = {}, {}

    def _get_per_token_logps_and_entropies(self, *args: object, **kwargs: object) -> tuple[Tensor, Tensor, None]:
        return self.given_logps, torch.zeros_like(self.given_logps), None

    def _generate(self, prompts: list[str]) -> tuple[object, ...]:
        return [[1] for _ in prompts], self.given_ids, None, prompts, self.given_sampler_logps, {}, None, None

    def _calculate_rewards(self, inputs: list[object], *args: object) -> Tensor:
        return torch.stack([row["reward"] for row in inputs])[:, None]


def trl_advantages(rewards: Tensor, scale_rewards: str) -> Tensor:
    trainer = GivenRollouts("dapo", scale_rewards=scale_rewards)
    trainer.reward_weights, trainer.reward_func_names = torch.ones(1), ["given"]
    inputs = [{"prompt": "p", "reward": reward} for reward in rewards]
    return trainer._generate_and_score_completions(inputs)["advantages"]


def rollouts() -> tuple[Tensor, Tensor, Tensor]:
    """Old and new log-probs [8, 12] with ratios from about 0.4 to 2.5, junk in the padding; advantages [8]."""
    generator = torch.Generator().manual_seed(3)
    old = torch.where(MASK, -3 * torch.rand(MASK.shape, generator=generator), -50.0)
    new = torch.where(MASK, old + 0.4 * torch.randn(MASK.shape, generator=generator), -50.5)
    return old, new, torch.randn(len(LENGTHS), generator=generator)


def trl_loss(
    trainer: GivenRollouts,
    new: Tensor,
    old: Tensor | None,
    advantages: Tensor,
    rows: slice,
    tokens: int,
    reference: Tensor | None = None,
) -> Tensor:
    trainer.given_logps = new[rows]
    mask = MASK[rows].long()
    prompt = torch.ones(len(mask), 1, dtype=torch.long)
    inputs = {
        "prompt_ids": prompt,
        "prompt_mask": prompt,
        "completion_ids": mask,
        "completion_mask": mask,
        "advantages": advantages[rows],
        "num_items_in_batch": torch.tensor(tokens),
    }
    if reference is not None:
        inputs["ref_per_token_logps"] = reference[rows]
    if old is not None:
        inputs["old_per_token_logps"] = old[rows]
    return trainer._compute_loss(trainer.model, inputs)


SETTINGS = {
    "dapo": ("token", int(LENGTHS.sum())),
    "grpo": ("sequence", len(LENGTHS)),
    "dr_grpo": ("sequence_sum", len(LENGTHS) * MAX_LENGTH),
}


@pytest.mark.parametrize("loss_type", SETTINGS)
@pytest.mark.parametrize("first_update", [False, True])
@pytest.mark.parametrize("micro_batches", [1, 2, 4])
def test_loss_gradient_and_clip_fractions_equal_trl(loss_type: str, first_update: bool, micro_batches: int) -> None:
    """1e-6 in fp32: 53 terms of size up to 3 over 8 to 96; an error in clip or denominator is 1e-2."""
    aggregation, denominator = SETTINGS[loss_type]
    old, new, advantages = rollouts()
    frozen = None if first_update else old
    theirs_logp, our_logp = new.clone().requires_grad_(), new.clone().requires_grad_()
    trainer = GivenRollouts(loss_type, accumulation=micro_batches)
    theirs, ours = torch.zeros(()), torch.zeros(())
    totals: dict[str, float] = defaultdict(float)
    size = len(LENGTHS) // micro_batches
    for start in range(0, len(LENGTHS), size):
        rows = slice(start, start + size)
        theirs = theirs + trl_loss(trainer, theirs_logp, frozen, advantages, rows, int(LENGTHS.sum()))
        loss, metrics = grpo_loss(
            our_logp[rows],
            frozen if frozen is None else frozen[rows],
            advantages[rows, None].expand(MASK[rows].shape),
            MASK[rows],
            denominator=denominator,
            aggregation=aggregation,
        )
        ours = ours + loss
        for name, value in metrics.items():
            totals[name] += value.item()
    theirs.backward()
    ours.backward()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    torch.testing.assert_close(our_logp.grad, theirs_logp.grad, rtol=0, atol=1e-6)
    if micro_batches == 1:
        mean = mean_metrics(totals)
        for side in ("low", "high"):
            (expected,) = trainer._metrics["train"][f"clip_ratio/{side}_mean"]
            assert mean[f"clip_fraction_{side}"] == pytest.approx(expected, abs=1e-6)
            assert (expected > 0) is not first_update


def summed(loss_type: str, level: str, clip: tuple[float, float], micro_batches: int) -> tuple[Tensor, Tensor]:
    """TRL's loss over all micro-batches and its gradient [8, 12]."""
    old, new, advantages = rollouts()
    trainer = GivenRollouts(loss_type, accumulation=micro_batches)
    trainer.importance_sampling_level, (trainer.epsilon_low, trainer.epsilon_high) = level, clip
    logp, loss = new.clone().requires_grad_(), torch.zeros(())
    size = len(LENGTHS) // micro_batches
    for start in range(0, len(LENGTHS), size):
        rows = slice(start, start + size)
        loss = loss + trl_loss(trainer, logp, old, advantages, rows, int(LENGTHS.sum()))
    loss.backward()
    return loss, logp.grad


@pytest.mark.parametrize("micro_batches", [1, 4])
@pytest.mark.parametrize(
    ("loss", "loss_type", "level", "ours", "theirs"),
    [
        # A clip that acts on some of the eight sequence ratios and not on others.
        ("gspo", "grpo", "sequence", (0.03, 0.04), (0.03, 0.04)),
        # TRL's bound of CISPO is the weight itself, ours is counted from 1.
        ("cispo", "cispo", "token", (None, 0.5), (0.2, 1.5)),
    ],
)
def test_gspo_and_cispo_equal_trl(
    loss: str, loss_type: str, level: str, ours: tuple, theirs: tuple, micro_batches: int
) -> None:
    """1e-6 in fp32, as above; with the token's ratio or clip in the place of the answer's the loss is 1e-2 off."""
    old, new, advantages = rollouts()
    expected, gradient = summed(loss_type, level, theirs, micro_batches)
    logp = new.clone().requires_grad_()
    found, totals = torch.zeros(()), []
    size = len(LENGTHS) // micro_batches
    for start in range(0, len(LENGTHS), size):
        rows = slice(start, start + size)
        value, metrics = grpo_loss(
            logp[rows],
            old[rows],
            advantages[rows, None].expand(MASK[rows].shape),
            MASK[rows],
            loss=loss,  # type: ignore[arg-type]
            clip_low=ours[0],
            clip_high=ours[1],
            denominator=SETTINGS["grpo" if loss == "gspo" else "dapo"][1],
            aggregation="sequence" if loss == "gspo" else "token",
        )
        found = found + value
        totals.append(metrics)
    found.backward()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(logp.grad, gradient, rtol=0, atol=1e-6)
    assert gradient.abs().max() > 1e-2
    if loss == "gspo":
        assert 0 < (gradient[MASK] == 0).sum() < MASK.sum(), "the clip acts on some answers only"
    else:
        cut = sum(metrics["clip_fraction_high"].item() for metrics in totals)
        assert 0 < cut < 1


MODES = {
    "token_truncate": Correction(level="token", outside="truncate", high=1.5, low=0.7),
    "token_mask": Correction(level="token", outside="mask", high=1.5, low=0.7),
    "sequence_truncate": Correction(level="sequence", outside="truncate", high=1.5),
    "sequence_mask": Correction(level="sequence", outside="mask", high=1.5, low=0.5),
}


@pytest.mark.parametrize(
    ("loss", "mode"),
    [(loss, mode) for loss in ("grpo", "gspo", "cispo") for mode in MODES if loss != "gspo" or "sequence" in mode],
)
def test_importance_weights_equal_trl(loss: str, mode: str) -> None:
    """TRL's own weights, by `vllm_importance_sampling_mode`, in TRL's own loss: 1e-6; unweighted it is 1e-2 off.

    One sampler log-prob is NaN: TRL and we leave such a token's difference at 0.
    """
    old, new, advantages = rollouts()
    sampler = torch.where(MASK, old + 0.5 * torch.randn(old.shape, generator=torch.Generator().manual_seed(5)), 0.0)
    sampler[2, 3] = torch.nan
    trainer = GivenRollouts({"grpo": "dapo", "gspo": "grpo", "cispo": "cispo"}[loss])
    trainer.epsilon_high = 1.28 if loss == "cispo" else 0.28
    trainer.importance_sampling_level = "sequence" if loss == "gspo" else "token"
    trainer.use_vllm = trainer.vllm_importance_sampling_correction = True
    trainer.vllm_importance_sampling_mode = mode
    trainer.vllm_importance_sampling_clip_max = MODES[mode].high
    trainer.vllm_importance_sampling_clip_min = MODES[mode].low
    trainer.given_ids = [[7] * int(length) for length in LENGTHS]
    trainer.given_sampler_logps = [row[:length].tolist() for row, length in zip(sampler, LENGTHS, strict=True)]
    trainer.reward_weights, trainer.reward_func_names = torch.ones(1), ["given"]
    trainer.given_logps = old
    scored = trainer._generate_and_score_completions(
        [{"prompt": "p", "reward": reward} for reward in torch.rand(len(LENGTHS))]
    )
    trainer.given_logps = theirs_logp = new.clone().requires_grad_()
    scored |= {"advantages": advantages, "num_items_in_batch": torch.tensor(int(LENGTHS.sum()))}
    theirs = trainer._compute_loss(trainer.model, scored)
    theirs.backward()

    ours_logp = new.clone().requires_grad_()
    ours, metrics = grpo_loss(
        ours_logp,
        old,
        advantages[:, None].expand(MASK.shape),
        MASK,
        loss=loss,  # type: ignore[arg-type]
        denominator=len(LENGTHS) if loss == "gspo" else int(LENGTHS.sum()),
        aggregation="sequence" if loss == "gspo" else "token",
        sampler_logp=sampler,
        correction=MODES[mode],
    )
    ours.backward()
    assert 0 < metrics["correction_outside"] < (MASK.sum() / len(LENGTHS) if loss == "gspo" else 1)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours_logp.grad, theirs_logp.grad, rtol=0, atol=1e-6)


@pytest.mark.parametrize("first_update", [False, True])
def test_kl_to_a_reference_equals_trl(first_update: bool) -> None:
    """`beta` with TRL's default `use_bias_correction_kl`: 1e-6, where k3 without the ratio is 1e-2 off."""
    old, new, advantages = rollouts()
    frozen = None if first_update else old
    reference = new + 0.5 * torch.randn(new.shape, generator=torch.Generator().manual_seed(9))
    trainer = GivenRollouts("dapo")
    trainer.beta, trainer.args.use_bias_correction_kl = 0.3, True
    theirs_logp, our_logp = new.clone().requires_grad_(), new.clone().requires_grad_()
    theirs = trl_loss(
        trainer, theirs_logp, frozen, advantages, slice(0, len(LENGTHS)), int(LENGTHS.sum()), reference=reference
    )
    theirs.backward()
    ours, metrics = grpo_loss(
        our_logp,
        frozen,
        advantages[:, None].expand(MASK.shape),
        MASK,
        denominator=int(LENGTHS.sum()),
        reference_logp=reference,
        kl_weight=0.3,
    )
    ours.backward()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    torch.testing.assert_close(our_logp.grad, theirs_logp.grad, rtol=0, atol=1e-6)
    (expected,) = trainer._metrics["train"]["kl"]
    assert metrics["kl_reference"].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("scale", "scale_rewards"), [("std", "group"), ("none", "none")])
def test_advantages_equal_trl(scale: str, scale_rewards: str) -> None:
    """With TRL's eps of 1e-4. Groups: mixed 0/1, continuous, one row without a verdict, all equal.

    1e-6: TRL works in float32, ours in float64. For the equal group TRL leaves rounding noise; ours is exactly 0.
    """
    generator = torch.Generator().manual_seed(1)
    rewards = torch.tensor([1.0, 0, 0, 1, *torch.rand(4, generator=generator), 0.1, torch.nan, 1.1, 1.0, *[0.3] * 4])
    theirs = trl_advantages(rewards, scale_rewards)
    ours = group_advantages(rewards, torch.arange(4).repeat_interleave(4), scale=scale, eps=1e-4)  # type: ignore[arg-type]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    assert not ours[-4:].any() and ours[9] == 0
