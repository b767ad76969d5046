"""A decoding step's attention on a CPU against a dense softmax and against vLLM's kernel, over vLLM's paged cache."""

from __future__ import annotations

import pytest
import torch

from pangu_rl.accelerators.native import load_native

vllm_ops = pytest.importorskip("vllm._custom_ops")

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
    starts, theirs = torch.arange(len(query) + 1, dtype=torch.int32), torch.empty_like(query)
    metadata = vllm_ops.cpu_attn_get_scheduler_metadata(
        num_reqs=len(query),
        num_heads=query.shape[1],
        num_kv_heads=pages.shape[1],
        head_dim=query.shape[2],
        seq_lens=lengths,
        dtype=torch.bfloat16,
        query_start_loc=starts,
        causal=True,
        sliding_window_size=-1,
        isa="vec",
        enable_kv_split=True,
    )
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
