// A token per row of logits, drawn by one uniform number each, with its log-prob and rank: one pass over what the chain of
// torch operations reads nine times.

#include <ATen/Parallel.h>
#include <torch/library.h>
#include <torch/types.h>

#include <cmath>
#include <limits>
#include <vector>

#include "row_math.h"

namespace {

using namespace pangu_rl;
using at::Tensor;

constexpr int64_t BLOCK = 1024;  // logits whose powers are summed in float32; sums of blocks are float64

struct Drawn {
  int64_t token;
  float logp;
  int64_t rank;
};

template <typename T>
float largest_of(const T* line, int64_t vocabulary) {
  float largest = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : largest)
  for (int64_t v = 0; v < vocabulary; ++v) largest = wide(line[v]) > largest ? wide(line[v]) : largest;
  return largest;
}

// The token at which the running sum of the powers passes `share` of their total.
template <typename T>
Drawn draw_row(const T* line, int64_t vocabulary, float factor, double share, double* blocks) {
  const float largest = largest_of(line, vocabulary);
  const int64_t count = (vocabulary + BLOCK - 1) / BLOCK;
  double total = 0;
  for (int64_t block = 0; block < count; ++block) {
    float sum = 0;
    const int64_t last = std::min((block + 1) * BLOCK, vocabulary);
#pragma omp simd reduction(+ : sum)
    for (int64_t v = block * BLOCK; v < last; ++v) sum += exponential((wide(line[v]) - largest) * factor);
    blocks[block] = sum;
    total += sum;
  }
  double left = share * total;
  int64_t block = 0;
  while (block + 1 < count && left >= blocks[block]) left -= blocks[block++];
  // Rounding may leave a little beyond the last power: then the block's largest is drawn, which has a share in any case.
  int64_t token = block * BLOCK, v = token;
  for (; v < std::min((block + 1) * BLOCK, vocabulary); ++v) {
    left -= exponential((wide(line[v]) - largest) * factor);
    if (left < 0) break;
    if (wide(line[v]) > wide(line[token])) token = v;
  }
  if (left < 0) token = v;
  const float chosen = wide(line[token]);
  int64_t rank = 0;
#pragma omp simd reduction(+ : rank)
  for (int64_t other = 0; other < vocabulary; ++other) rank += wide(line[other]) >= chosen;
  return {token, float(double((chosen - largest) * factor) - std::log(total)), rank};
}

// logits [R, V], temperature float32 [R], uniform float64 [R] in [0, 1) -> token int64, log-prob float32, rank int64 [R].
std::tuple<Tensor, Tensor, Tensor> draw(const Tensor& logits, const Tensor& temperature, const Tensor& uniform) {
  const int64_t rows = logits.size(0), vocabulary = logits.size(1);
  TORCH_CHECK(logits.is_contiguous() && vocabulary > 0, "dense rows are wanted, not ", logits.sizes());
  TORCH_CHECK(temperature.is_contiguous() && temperature.numel() == rows, temperature.sizes(), " for ", rows, " rows");
  TORCH_CHECK(uniform.is_contiguous() && uniform.numel() == rows, uniform.sizes(), " for ", rows, " rows");
  const auto whole = logits.options().dtype(at::kLong);
  Tensor tokens = at::empty({rows}, whole), logps = at::empty({rows}, whole.dtype(at::kFloat));
  Tensor ranks = at::empty({rows}, whole);
  const float* heat = temperature.const_data_ptr<float>();
  const double* shares = uniform.const_data_ptr<double>();
  int64_t *token = tokens.data_ptr<int64_t>(), *rank = ranks.data_ptr<int64_t>();
  float* logp = logps.data_ptr<float>();
  const auto draw_all = [=](const auto* lines) {
    at::parallel_for(0, rows, 1, [=](int64_t first, int64_t last) {
      std::vector<double> blocks(static_cast<size_t>((vocabulary + BLOCK - 1) / BLOCK));
      for (int64_t row = first; row < last; ++row) {
        const Drawn drawn = draw_row(lines + row * vocabulary, vocabulary, 1.0f / heat[row], shares[row], blocks.data());
        token[row] = drawn.token, logp[row] = drawn.logp, rank[row] = drawn.rank;
      }
    });
  };
  if (logits.scalar_type() == at::kFloat) {
    draw_all(logits.const_data_ptr<float>());
  } else {
    TORCH_CHECK(logits.scalar_type() == at::kBFloat16, "float32 or bfloat16, not ", logits.scalar_type());
    draw_all(reinterpret_cast<const Bf16*>(logits.const_data_ptr()));
  }
  return {tokens, logps, ranks};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(pangu_rl, library) {
  library.def("draw(Tensor logits, Tensor temperature, Tensor uniform) -> (Tensor token, Tensor logp, Tensor rank)");
}

TORCH_LIBRARY_IMPL(pangu_rl, CPU, library) { library.impl("draw", draw); }
