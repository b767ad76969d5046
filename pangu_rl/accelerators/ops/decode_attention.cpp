// One query per sequence over the paged cache of vLLM's vector kernels for processors: a step of decoding.
//
// The keys and values of all sequences are far more than a processor's cache holds, so they are asked for ahead of their
// use. Those of a key head are read once for up to HEADS of its query heads. Each sequence and key head is a task of its
// own, so no result depends on the number of threads.
//
// Letters: B sequences, H heads, K key heads, D head size, N tokens of a block, n tokens of a sequence.

#include <ATen/Parallel.h>
#include <torch/library.h>
#include <torch/types.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "row_math.h"

namespace {

using namespace pangu_rl;
using at::BFloat16;
using at::Tensor;

constexpr int64_t LANES = 16;
constexpr int64_t HEADS = 8;  // whose sums stay in registers

typedef float Floats __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t Words __attribute__((vector_size(64), may_alias));
typedef uint16_t Halves __attribute__((vector_size(32), aligned(2), may_alias));

INLINE Floats load(const BFloat16* p) {
  return __builtin_bit_cast(Floats, __builtin_convertvector(*reinterpret_cast<const Halves*>(p), Words) << 16);
}

struct Cache {
  const BFloat16* data;
  int64_t block, head;  // strides
  int64_t size, tokens;  // D, N

  const BFloat16* keys(int64_t number, int64_t key_head) const { return data + number * block + key_head * head; }
  const BFloat16* values(int64_t number, int64_t key_head) const { return keys(number, key_head) + size * tokens; }
};

// query [G, D] -> scores of the first n keys, [G, room] each; a block's keys lie as [D, N].
//
// A block's values and the next block's keys are asked for meanwhile; behind the last block, what the next task begins with.
template <int64_t G>
void score(const Cache& cache, const int32_t* blocks, int64_t key_head, int64_t n, const float* query, float* scores,
           int64_t room, const BFloat16* then) {
  for (int64_t start = 0; start < n; start += 2 * LANES) {
    const int64_t block = start / cache.tokens, inside = start % cache.tokens;
    const BFloat16* keys = cache.keys(blocks[block], key_head) + inside;
    const bool last = (block + 1) * cache.tokens >= n;
    const BFloat16* ahead = (last ? then : cache.keys(blocks[block + 1], key_head)) + inside * cache.size;
    const BFloat16* values = cache.values(blocks[block], key_head) + inside * cache.size;
    Floats sums[G][2] = {};
    for (int64_t d = 0; d < cache.size; ++d) {
      __builtin_prefetch(values + d * 2 * LANES);
      __builtin_prefetch(ahead + d * 2 * LANES);
      const Floats first = load(keys + d * cache.tokens), second = load(keys + d * cache.tokens + LANES);
      for (int64_t g = 0; g < G; ++g) {
        sums[g][0] += query[g * cache.size + d] * first;
        sums[g][1] += query[g * cache.size + d] * second;
      }
    }
    for (int64_t g = 0; g < G; ++g) std::memcpy(scores + g * room + start, sums[g], sizeof(sums[g]));
  }
}

// The first n of scores -> powers of their distance to the largest, in place; one over their sum.
float softmax(float* scores, int64_t n) {
  float largest = -std::numeric_limits<float>::infinity(), sum = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t t = 0; t < n; ++t) largest = scores[t] > largest ? scores[t] : largest;
#pragma omp simd reduction(+ : sum)
  for (int64_t t = 0; t < n; ++t) sum += scores[t] = exponential(scores[t] - largest);
  return n ? 1.0f / sum : 0.0f;
}

// weights [G, room] -> out [G, D], their sums of the values; a block's values lie as [N, D].
template <int64_t G>
void gather(const Cache& cache, const int32_t* blocks, int64_t key_head, int64_t n, const float* weights, int64_t room,
            const float* factors, BFloat16* out) {
  constexpr int64_t most = G > 4 ? 2 : 4;  // vectors of an output at once: all sums stay in registers
  for (int64_t from = 0; from < cache.size; from += most * LANES) {
    const int64_t count = std::min(most, (cache.size - from) / LANES);
    Floats sums[G][most] = {};
    for (int64_t start = 0; start < n; start += cache.tokens) {
      const BFloat16* values = cache.values(blocks[start / cache.tokens], key_head) + from;
      const int64_t end = std::min(cache.tokens, n - start);
      const auto add = [&](int64_t width) __attribute__((always_inline)) {
        for (int64_t t = 0; t < end; ++t)
          for (int64_t i = 0; i < width; ++i) {
            const Floats value = load(values + t * cache.size + i * LANES);
            for (int64_t g = 0; g < G; ++g) sums[g][i] += weights[g * room + start + t] * value;
          }
      };
      if (count == most) add(most);
      else add(count);
    }
    for (int64_t g = 0; g < G; ++g)
      for (int64_t i = 0; i < count; ++i)
        for (int64_t lane = 0; lane < LANES; ++lane)
          out[g * cache.size + from + i * LANES + lane] = sums[g][i][lane] * factors[g];
  }
}

template <int64_t G>
void attend(const Cache& cache, const int32_t* blocks, int64_t key_head, int64_t n, float scale, const BFloat16* query,
            BFloat16* out, const BFloat16* then) {
  thread_local std::vector<float> wide_query, scores;
  const int64_t room = (n + 2 * LANES - 1) / (2 * LANES) * 2 * LANES;
  wide_query.resize(G * cache.size);
  scores.resize(G * room);
  for (int64_t i = 0; i < G * cache.size; ++i) wide_query[i] = static_cast<float>(query[i]) * scale;
  score<G>(cache, blocks, key_head, n, wide_query.data(), scores.data(), room, then);
  float factors[G];
  for (int64_t g = 0; g < G; ++g) factors[g] = softmax(scores.data() + g * room, n);
  gather<G>(cache, blocks, key_head, n, scores.data(), room, factors, out);
}

// query and out [B, H, D], cache [blocks, K, 2 N, D], table int32 [B or more, blocks of a sequence], lengths int32 [B].
void decode_attention(
    const Tensor& query, const Tensor& cache, const Tensor& table, const Tensor& lengths, double scale, Tensor& out) {
  const int64_t sequences = query.size(0), heads = query.size(1), size = query.size(2), key_heads = cache.size(1);
  const int64_t tokens = cache.size(2) / 2, group = heads / key_heads;
  TORCH_CHECK(
      query.scalar_type() == at::kBFloat16 && cache.scalar_type() == at::kBFloat16 && out.scalar_type() == at::kBFloat16,
      "bfloat16 is wanted, not ", query.scalar_type(), ", ", cache.scalar_type());
  TORCH_CHECK(
      cache.size(3) == size && heads % key_heads == 0 && size % LANES == 0 && tokens % (2 * LANES) == 0 &&
          out.sizes() == query.sizes(),
      "queries ", query.sizes(), ", outputs ", out.sizes(), ", cache ", cache.sizes());
  TORCH_CHECK(
      table.scalar_type() == at::kInt && table.size(0) >= sequences && table.stride(1) == 1 &&
          lengths.scalar_type() == at::kInt && lengths.numel() == sequences && lengths.is_contiguous(),
      "block table ", table.sizes(), ", lengths ", lengths.sizes());
  TORCH_CHECK(
      query.stride(2) == 1 && query.stride(1) == size && out.stride(2) == 1 && out.stride(1) == size &&
          cache.stride(3) == 1 && cache.stride(2) == size,
      "heads must be dense");
  const Cache pages{cache.const_data_ptr<BFloat16>(), cache.stride(0), cache.stride(1), size, tokens};
  const auto* queries = query.const_data_ptr<BFloat16>();
  auto* outs = out.data_ptr<BFloat16>();
  const auto *blocks = table.const_data_ptr<int32_t>(), *length = lengths.const_data_ptr<int32_t>();
  const int64_t row = query.stride(0), out_row = out.stride(0), table_row = table.stride(0), count = sequences * key_heads;
  std::atomic<int64_t> next{0};
  at::parallel_for(0, std::min<int64_t>(at::get_num_threads(), count), 1, [&](int64_t, int64_t) {
    for (int64_t i = next++; i < count; i = next++) {
      const int64_t b = i / key_heads, k = i % key_heads, other = std::min(i + 1, count - 1);
      const BFloat16* then = pages.keys(blocks[other / key_heads * table_row], other % key_heads);
      for (int64_t g = 0; g < group; g += HEADS) {
        const int64_t place = (k * group + g) * size;
        const auto run = [&](auto many) {
          attend<many>(pages, blocks + b * table_row, k, length[b], static_cast<float>(scale), queries + b * row + place,
                       outs + b * out_row + place, then);
        };
        switch (std::min(HEADS, group - g)) {
          case 1: run(std::integral_constant<int64_t, 1>{}); break;
          case 2: run(std::integral_constant<int64_t, 2>{}); break;
          case 3: run(std::integral_constant<int64_t, 3>{}); break;
          case 4: run(std::integral_constant<int64_t, 4>{}); break;
          case 5: run(std::integral_constant<int64_t, 5>{}); break;
          case 6: run(std::integral_constant<int64_t, 6>{}); break;
          case 7: run(std::integral_constant<int64_t, 7>{}); break;
          default: run(std::integral_constant<int64_t, HEADS>{});
        }
      }
    }
  });
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(pangu_rl, library) {
  library.def(
      "decode_attention(Tensor query, Tensor cache, Tensor table, Tensor lengths, float scale, Tensor(a!) out) -> ()");
}

TORCH_LIBRARY_IMPL(pangu_rl, CPU, library) { library.impl("decode_attention", decode_attention); }
