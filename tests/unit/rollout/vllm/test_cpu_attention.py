"""A decoding step's attention on a CPU against a dense softmax and against vLLM's kernel, over vLLM's paged cache."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from pangu_rl.accelerators.native import load_native

vllm_ops = pytest.importorskip("vllm._custom_ops")
if platform.machine() != "x86_64" or not hasattr(torch.ops._C, "cpu_attn_reshape_and_cache"):
    pytest.skip("vLLM's vector kernels are those of an x86 processor", allow_module_level=True)

SHAPES = {
    "three heads a key head": ([1, 31, 32, 33, 64, 65, 200], (9, 3), 64, 32),
    "a key head each": ([5, 64, 129], (4, 4), 128, 64),
    "more heads than at once": ([40, 7], (28, 2), 32, 32),
    "a head of half vectors": ([70, 3], (14, 2), 80, 32),
    "one sequence": ([1000], (8, 1), 256, 128),
}


@pytest.fixture(params=SHAPES, name="step")
def decoding_step(request: pytest.FixtureRequest) -> dict:
    """Random keys and values in blocks in no order, written by vLLM; what no sequence has written is not a number."""
    assert load_native(), "make setup compiles the kernels"
    lengths, (heads, key_heads), size, block = SHAPES[request.param]
    generator = torch.Generator().manual_seed(0)
    most = -(-max(lengths) // block)
    cache = torch.full((len(lengths) * most + 3, key_heads, block, 2 * size), torch.nan).bfloat16()
    table = torch.randperm(len(cache), generator=generator)[: len(lengths) * most].view(-1, most).to(torch.int32)
    keys, values = (
        [torch.randn(n, key_heads, size, generator=generator).bfloat16() for n in lengths] for _ in range(2)
    )
    slots = [row[torch.arange(n) // block].long() * block + torch.arange(n) % block for row, n in zip(table, lengths)]
    pages = cache.view(len(cache), key_heads, 2 * block, size)
    vllm_ops.cpu_attn_reshape_and_cache(
        torch.cat(keys), torch.cat(values), *pages.chunk(2, dim=2), torch.cat(slots), "vec"
    )
    query = torch.randn(len(lengths), heads, size, generator=generator).bfloat16()
    return {
        "query": query,
        "keys": keys,
        "values": values,
        "pages": pages,
        "table": table,
        "lengths": torch.tensor(lengths, dtype=torch.int32),
        "scale": size**-0.5,
    }


def planned(lengths: torch.Tensor, heads: int, size: int, key_heads: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the token of each sequence stands, and how vLLM deals the work to threads."""
    starts = torch.arange(len(lengths) + 1, dtype=torch.int32)
    return starts, vllm_ops.cpu_attn_get_scheduler_metadata(
        num_reqs=len(lengths),
        num_heads=heads,
        num_kv_heads=key_heads,
        head_dim=size,
        seq_lens=lengths,
        dtype=torch.bfloat16,
        query_start_loc=starts,
        causal=True,
        sliding_window_size=-1,
        isa="vec",
        enable_kv_split=True,
    )


def ours(step: dict) -> torch.Tensor:
    out = torch.empty_like(step["query"])
    torch.ops.pangu_rl.decode_attention(
        step["query"], step["pages"], step["table"], step["lengths"], step["scale"], out
    )
    return out


def dense(step: dict) -> torch.Tensor:
    rows = []
    for query, keys, values in zip(step["query"], step["keys"], step["values"], strict=True):
        group = len(query) // keys.shape[1]
        keys, values = (x.double().repeat_interleave(group, 1) for x in (keys, values))
        weights = torch.softmax(torch.einsum("hd,nhd->hn", query.double(), keys) * step["scale"], -1)
        rows.append(torch.einsum("hn,nhd->hd", weights, values))
    return torch.stack(rows)


def test_each_query_sees_its_own_sequence(step: dict) -> None:
    """Rounded once to bfloat16, 2^-9 of itself; sums in float32 add far less."""
    torch.testing.assert_close(ours(step).double(), dense(step), rtol=2**-8, atol=1e-3)


def test_vllms_kernel_reads_the_same(step: dict) -> None:
    """So a vLLM with another layout of the cache is noticed."""
    query, pages, lengths = step["query"], step["pages"].nan_to_num_(0), step["lengths"]
    theirs, (starts, metadata) = torch.empty_like(query), planned(lengths, *query.shape[1:], pages.shape[1])
    vllm_ops.cpu_attention_with_kv_cache(
        query=query,
        key_cache=pages.chunk(2, dim=2)[0],
        value_cache=pages.chunk(2, dim=2)[1],
        output=theirs,
        query_start_loc=starts,
        seq_lens=lengths,
        scale=step["scale"],
        causal=True,
        alibi_slopes=None,
        sliding_window=-1,
        block_table=step["table"],
        softcap=0.0,
        scheduler_metadata=metadata,
        s_aux=None,
    )
    torch.testing.assert_close(ours(step), theirs, rtol=2**-7, atol=1e-3)


def test_the_same_bits_for_any_number_of_threads(step: dict) -> None:
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(ours(step))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)


def test_other_shapes_are_refused(step: dict) -> None:
    query = step["query"]
    for wrong in ({"query": query.float()}, {"query": query[..., :-2]}, {"lengths": step["lengths"].long()}):
        with pytest.raises(RuntimeError):
            ours(step | wrong)


def built(**changes: object) -> torch.nn.Module:
    """An attention without vLLM's configuration, of which `forward` reads nothing."""
    from rollout.vllm.cpu_attention import CpuAttention

    attention = object.__new__(CpuAttention)
    plain = {"attn_type": "decoder", "sliding_window": -1, "alibi_slopes": None, "logits_soft_cap": 0, "sinks": None}
    for name, value in (plain | {"kv_cache_dtype": "auto", "scale": 0.125} | changes).items():
        setattr(attention, name, value)
    return attention


def asked(sequences: int, **changes: object) -> SimpleNamespace:
    """32 tokens of each sequence, in a block of its own."""
    lengths = torch.full((sequences,), 32, dtype=torch.int32)
    starts, metadata = planned(lengths, heads=4, size=64, key_heads=2)
    table = torch.arange(sequences, dtype=torch.int32)[:, None]
    found = {"max_query_len": 1, "num_actual_tokens": sequences, "causal": True, "dynamic_causal": None}
    found |= {"seq_lens": lengths, "query_start_loc": starts, "block_table": table, "scheduler_metadata": metadata}
    return SimpleNamespace(**found | changes)


@pytest.mark.slow  # importing vLLM's layers takes longer than a quick test may
class TestInVllm:
    SEQUENCES = 64

    @pytest.fixture(autouse=True)
    def few_threads(self) -> Iterator[None]:
        """With many, so few sequences would be vLLM's in every case."""
        threads = torch.get_num_threads()
        torch.set_num_threads(2)
        yield
        torch.set_num_threads(threads)

    def inputs(self) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        query = torch.randn(self.SEQUENCES, 4, 64, generator=generator).bfloat16()
        return query, torch.randn(self.SEQUENCES, 2, 32, 128, generator=generator).bfloat16()

    def test_vllm_takes_it(self) -> None:
        from vllm.v1.attention.backends.registry import AttentionBackendEnum

        from rollout.vllm.plugin import register

        register()
        assert AttentionBackendEnum.CPU_ATTN.get_class().get_impl_cls().__name__ == "CpuAttention"

    def test_it_gives_what_vllms_gives(self) -> None:
        from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackendImpl

        attention, layer = built(), SimpleNamespace(isa="vec", _k_scale_float=1.0, _v_scale_float=1.0)
        (query, cache), found = self.inputs(), []
        assert attention._serves("vec", query, cache, asked(self.SEQUENCES))
        for forward in (type(attention).forward, CPUAttentionBackendImpl.forward):
            out = torch.zeros_like(query)
            forward(attention, layer, query, query, query, cache, asked(self.SEQUENCES), out)
            found.append(out)
        assert found[0].abs().max() > 0.1
        torch.testing.assert_close(*found, rtol=2**-7, atol=1e-3)

    @pytest.mark.parametrize(
        "own",
        [
            {"attn_type": "encoder_only"},
            {"attn_type": "encoder_decoder"},
            {"sliding_window": 16},
            {"alibi_slopes": torch.ones(4)},
            {"logits_soft_cap": 30.0},
            {"sinks": torch.ones(4)},
        ],
        ids=lambda own: next(iter(own)),
    )
    def test_vllms_own_bends_scores_and_encodes(self, own: dict) -> None:
        query, cache = self.inputs()
        cache = torch.tensor([]) if own.get("attn_type") == "encoder_only" else cache
        assert not built(**own)._serves("vec", query, cache, asked(self.SEQUENCES))

    @pytest.mark.parametrize("batch", [{"max_query_len": 2}, {"causal": False}, {"num_actual_tokens": 63}])
    def test_vllms_own_reads_what_is_not_a_token_of_each_sequence(self, batch: dict) -> None:
        query, cache = self.inputs()
        assert not built()._serves("vec", query, cache, asked(self.SEQUENCES, **batch))

    def test_vllms_own_computes_other_layouts_and_dtypes_and_few_sequences(self) -> None:
        query, cache = self.inputs()
        assert not built()._serves("amx", query, cache, asked(self.SEQUENCES))
        assert not built()._serves("vec", query.float(), cache, asked(self.SEQUENCES))
        assert not built()._serves("vec", query, cache.float(), asked(self.SEQUENCES))
        few = query[:2], cache[:2], asked(2)
        assert not built()._serves("vec", *few)
