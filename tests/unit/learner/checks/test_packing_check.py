"""Over transformers' families: what packs right is let through in both dtypes, what does not is refused by its reason.

A family is named by its `model_type`. The models are tiny, what is checked is the code they run.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from pangu_rl.errors import UserError
from pangu_rl.learner.checks.packing_check import PackingCheck, check_packing, unpacked
from pangu_rl.learner.checks.trial_pack import reordered, trial_pack, turned
from pangu_rl.learner.fused import fuse_operations
from pangu_rl.learner.model import PackedCausalLM
from pangu_rl.learner.packed_attention import PACKED
from tests.unit.learner.builders import join, llama, tree_pack
from tests.unit.learner.families import parameters_of, tiny

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
RIGHT = (
    *("llama", "qwen3", "gemma3_text", "phi3", "qwen3_moe", "granite", "minicpm3", "gemma2", "nanochat"),
    *("hyperclovax", "deepseek_v3"),
)
RIGHT_SLOW = (
    *("qwen2", "mistral", "glm4", "olmo2", "mixtral", "cohere2", "gemma", "gemma3n_text", "gemma4_text", "phi", "glm"),
    *("smollm3", "olmo", "olmo3", "ernie4_5", "exaone4", "seed_oss", "hunyuan_v1_dense", "starcoder2", "stablelm"),
    *("apertus", "arcee", "helium", "gpt_neox", "gpt2", "opt", "qwen2_moe", "glm4_moe", "olmoe", "hunyuan_v1_moe"),
    *("ernie4_5_moe", "dots1", "phimoe", "minimax_m2", "granitemoe", "granitemoeshared", "cohere", "deepseek_v2"),
    *("glm4_moe_lite", "youtu", "bitnet", "diffllama", "nemotron", "persimmon", "biogpt", "jetmoe", "ministral"),
    *(
        "ministral3",
        "solar_open",
        "cwm",
        "afmoe",
        "flex_olmo",
        "exaone_moe",
        "jais2",
        "gpt_oss",
        "vaultgemma",
        "longcat_flash",
    ),
)
STATE = r"change by .* with the order of the sequences in the pack .*: the state of {} runs on from one sequence"
BORDERS = r"change by .* with the order of the sequences in the pack .* reads across the borders of sequences"
DIFFERENT = r"differ from its own forward by .* nats .* bypasses transformers' registry or has a position bias"
BROKEN = r"does not run packed \(AttributeError: .*\): its code takes no packed sequences"
REFUSED = {
    "falcon_h1": STATE.format("FalconH1Mixer"),
    "qwen3_5_text": STATE.format("Qwen3_5GatedDeltaNet"),
    "lfm2": STATE.format("Lfm2ShortConv"),
    "bloom": BORDERS,
    "xglm": DIFFERENT,
    "llama4_text": BROKEN,
}
REFUSED_SLOW = {
    "qwen3_next": STATE.format("Qwen3NextGatedDeltaNet"),
    "jamba": STATE.format("JambaMambaMixer"),
    "bamba": STATE.format("BambaMixer"),
    "lfm2_moe": STATE.format("Lfm2MoeShortConv"),
    "nemotron_h": STATE.format("NemotronHMamba2Mixer"),
    "granitemoehybrid": STATE.format("GraniteMoeHybridMambaLayer"),
    "olmo_hybrid": STATE.format("OlmoHybridGatedDeltaNet"),
    "recurrent_gemma": STATE.format("RecurrentGemmaRecurrentBlock"),
    "mamba": STATE.format("MambaMixer"),
    "mamba2": STATE.format("Mamba2Mixer"),
    "zaya": STATE.format("ZayaCCAProjection"),
    "minimax": BORDERS,
    "rwkv": BORDERS,
    "mpt": BROKEN,
    "codegen": DIFFERENT,
    "modernbert-decoder": DIFFERENT,
    "doge": "uses an attention mask of its own",
}


def check(lm: PreTrainedModel) -> PackingCheck:
    """Of a model as it is loaded to be trained."""
    fuse_operations(lm)
    model = PackedCausalLM(lm, temperature=0.7, chunk=64)
    return check_packing(model, lm, trial_pack(lm))


def known(family: str) -> str:
    if family not in CONFIG_MAPPING:
        pytest.skip(f"this transformers has no {family}")
    return family


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", [*RIGHT, *(pytest.param(name, marks=pytest.mark.slow) for name in RIGHT_SLOW)])
def test_a_family_that_packs_right_is_let_through(family: str, dtype: str) -> None:
    found = check(tiny(known(family), DTYPES[dtype], PACKED))
    assert found.tokens == 38
    if dtype == "float32":
        # Half of the targets agree to the last digit or the one before; the limit is 1e-4.
        assert max(found.order, found.plain) < 2e-6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", [*REFUSED, *(pytest.param(name, marks=pytest.mark.slow) for name in REFUSED_SLOW)])
def test_a_family_that_does_not_is_refused_in_one_line(family: str, dtype: str) -> None:
    with pytest.raises(UserError, match=(REFUSED | REFUSED_SLOW)[family]) as caught:
        # Parts of a recurrence stay in float32, so it is loaded as such.
        check(tiny(known(family), torch.float32 if "mamba" in family else DTYPES[dtype], PACKED))
    assert "\n" not in str(caught.value)


TINY = 10_000_000
NAMED = {*RIGHT, *RIGHT_SLOW, *REFUSED, *REFUSED_SLOW}


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - NAMED))
def test_any_other_family_is_let_through_or_refused_in_one_line(family: str) -> None:
    """Of all that the installed transformers has, as far as a tiny one can be made of the keys that most have."""
    try:
        if (size := parameters_of(family)) > TINY:
            pytest.skip(f"{family} has {size:,} parameters with these keys")
        lm = tiny(family, attention=PACKED)
        own = lm(input_ids=torch.arange(4, 9)[None], use_cache=False).logits
    except UserError as refused:
        assert "\n" not in str(refused)
        return
    except Exception as error:  # a configuration of its own that our keys do not describe
        pytest.skip(f"no tiny {family} of these keys: {type(error).__name__}")
    assert own.isfinite().all()
    try:
        found = check(lm)
    except UserError as refused:
        assert "\n" not in str(refused)
    else:
        assert max(found.order, found.plain) < 1e-4


@pytest.mark.parametrize("family", ["granite", "cohere2", "minicpm3", "gemma2", "nanochat", "hyperclovax"])
def test_a_head_that_scales_or_caps_is_seen_when_it_is_left_out(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from pangu_rl.learner import model
    from pangu_rl.learner.logit_scaling import LogitScaling

    monkeypatch.setattr(model, "logit_scaling", lambda config: LogitScaling())
    with pytest.raises(UserError, match="logits are scaled or capped in a way that is not known"):
        check(tiny(family, torch.bfloat16, PACKED))


def test_positions_that_do_not_go_on_from_the_prompt_are_refused() -> None:
    """Of rotary positions only distances count, so only completions, away from their prompt, are wrong."""
    lm = llama()
    lm.set_attn_implementation(PACKED)
    forward = lm.model.forward
    lm.model.forward = lambda position_ids=None, **kwargs: forward(**kwargs)
    with pytest.raises(UserError, match="with the order of the sequences in the pack"):
        check(lm)


def test_a_reordered_pack_holds_the_same_sequences_and_targets() -> None:
    """Trees 6 -> (2, 3) and 4 -> (1): reversed they are 4 -> (1) and 6 -> (3, 2)."""
    pack = join([tree_pack([(6, [2, 3])]), tree_pack([(4, [1])], seed=1, first_sequence=2)])
    moved = reordered(pack)
    assert moved.segment_starts.tolist() == [0, 4, 5, 11, 14, 16]
    assert moved.segment_parents.tolist() == [-1, 0, -1, 2, 2]
    assert np.array_equal(moved.token_ids[moved.targets], pack.token_ids[pack.targets])
    assert np.array_equal(moved.token_ids[moved.predictors], pack.token_ids[pack.predictors])
    assert moved.position_ids.tolist() == [*range(5), *range(6), 6, 7, 8, 6, 7]

    def sequences(one) -> list[list[int]]:
        return sorted(one.token_ids[tokens].tolist() for tokens, _ in unpacked(one))

    assert sequences(moved) == sequences(turned(pack)) == sequences(pack)
    assert turned(pack).segment_parents.tolist() == [-1, 0, -1, 2, 2]
    assert turned(pack).segment_starts.tolist() == [0, 4, 5, 11, 13, 16]
