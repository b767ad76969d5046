// Row-wise kernels of the learner on a processor, both directions: T in and out, float32 between.
//
// Every number is worked out by one thread in a fixed order, so results are equal to the bit whatever the number of
// threads. Loops are written for the compiler to vectorise: what is called inside them must be inlined.

#include <ATen/Parallel.h>
#include <torch/library.h>
#include <torch/types.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "row_math.h"

namespace {

using namespace pangu_rl;
using at::Tensor;

INLINE float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

// Both activations are x s(x); `slope` is their derivative, given s(x).
struct Silu {
  static INLINE float share(float x) { return sigmoid(x); }
  static INLINE float slope(float x, float s) { return s + x * s * (1.0f - s); }
};

// x (1 + tanh(u)) / 2 = x sigmoid(2 u) with u = sqrt(2 / pi) (x + 0.044715 x^3).
struct GeluTanh {
  static INLINE float share(float x) { return sigmoid(1.5957691216f * x * (1.0f + 0.044715f * x * x)); }
  static INLINE float slope(float x, float s) {
    return s + x * s * (1.0f - s) * 1.5957691216f * (1.0f + 0.134145f * x * x);
  }
};

constexpr int64_t PIECE = 64;   // rows whose weight gradient is summed together, whatever the number of threads
constexpr int64_t RUN = 4096;   // elements that a thread takes at once
constexpr int64_t TILE = 32;    // rows and columns of a transposed tile: a cache line
constexpr int64_t STRIP = 256;  // columns of which all rows are turned: few enough pages for the address cache

template <typename T>
T* data(const Tensor& x) {
  return reinterpret_cast<T*>(x.data_ptr());
}

// Calls `kernel(T{})` with the scalar of `x`; every other tensor must be of it too, and all of them contiguous.
template <typename Kernel>
void with_scalar_of(const Tensor& x, std::initializer_list<Tensor> others, Kernel kernel) {
  for (const Tensor& other : others) {
    TORCH_CHECK(other.scalar_type() == x.scalar_type(), "dtypes differ: ", other.scalar_type(), ", ", x.scalar_type());
    TORCH_CHECK(other.is_contiguous(), "a tensor is not contiguous");
  }
  if (x.scalar_type() == at::kFloat) return kernel(float{});
  TORCH_CHECK(x.scalar_type() == at::kBFloat16, "float32 or bfloat16, not ", x.scalar_type());
  kernel(Bf16{});
}

// Returns 1 / sqrt(mean(x^2) + eps).
template <typename T>
float norm_row(const T* x, const T* weight, T* out, int64_t width, float eps) {
  float squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t i = 0; i < width; ++i) squares += wide(x[i]) * wide(x[i]);
  const float inverse = 1.0f / std::sqrt(squares / float(width) + eps);
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) put(out[i], rounded<T>(wide(x[i]) * inverse) * wide(weight[i]));
  return inverse;
}

// With n = x inverse: grad_x = inverse (grad weight - n mean(grad weight n)); grad n is added to `grad_weight`.
template <typename T>
void norm_row_backward(
    const T* grad, const T* x, const T* weight, float inverse, T* grad_x, float* grad_weight, int64_t width) {
  float mean = 0;
#pragma omp simd reduction(+ : mean)
  for (int64_t i = 0; i < width; ++i) {
    const float product = wide(grad[i]) * (wide(x[i]) * inverse);
    grad_weight[i] += product;
    mean += product * wide(weight[i]);
  }
  mean /= float(width);
#pragma omp simd
  for (int64_t i = 0; i < width; ++i)
    put(grad_x[i], (wide(grad[i]) * wide(weight[i]) - wide(x[i]) * inverse * mean) * inverse);
}

// x [.., W], weight [W] -> x inverse weight, and inverse float32 [rows].
std::tuple<Tensor, Tensor> rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  const int64_t width = x.size(-1), rows = x.numel() / width;
  Tensor out = at::empty_like(x), inverse = at::empty({rows}, x.options().dtype(at::kFloat));
  with_scalar_of(x, {x, weight}, [&](auto scalar) {
    using T = decltype(scalar);
    const T *in = data<T>(x), *factor = data<T>(weight);
    T* result = data<T>(out);
    float* scale = data<float>(inverse);
    at::parallel_for(0, rows, PIECE, [=](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row)
        scale[row] = norm_row<T>(in + row * width, factor, result + row * width, width, float(eps));
    });
  });
  return {out, inverse};
}

std::tuple<Tensor, Tensor> rms_norm_backward(
    const Tensor& grad, const Tensor& x, const Tensor& weight, const Tensor& inverse) {
  const int64_t width = x.size(-1), rows = x.numel() / width, pieces = (rows + PIECE - 1) / PIECE;
  Tensor grad_x = at::empty_like(x), grad_weight = at::empty_like(weight);
  std::vector<float> partial(size_t(pieces * width), 0.0f), total(size_t(width), 0.0f);
  with_scalar_of(x, {grad, x, weight}, [&](auto scalar) {
    using T = decltype(scalar);
    const T *slope = data<T>(grad), *in = data<T>(x), *factor = data<T>(weight);
    T* result = data<T>(grad_x);
    const float* scale = data<float>(inverse);
    float* sums = partial.data();
    at::parallel_for(0, pieces, 1, [=](int64_t first, int64_t last) {
      for (int64_t row = first * PIECE; row < std::min(last * PIECE, rows); ++row) {
        const int64_t at = row * width;
        norm_row_backward<T>(slope + at, in + at, factor, scale[row], result + at, sums + row / PIECE * width, width);
      }
    });
    for (int64_t piece = 0; piece < pieces; ++piece)
      for (int64_t i = 0; i < width; ++i) total[i] += sums[piece * width + i];
    for (int64_t i = 0; i < width; ++i) put(data<T>(grad_weight)[i], total[i]);
  });
  return {grad_x, grad_weight};
}

// Where a run ends is no matter of threads: an element is always in the same place of a vector, or of what is left over.
template <typename Kernel>
void by_runs(int64_t count, Kernel kernel) {
  at::parallel_for(0, (count + RUN - 1) / RUN, 1, [&](int64_t first, int64_t last) {
    for (int64_t run = first; run < last; ++run) kernel(run * RUN, std::min((run + 1) * RUN, count));
  });
}

template <typename A, typename T>
[[gnu::noinline]] void gate_run(const T* gate, const T* up, T* out, int64_t first, int64_t last) {
#pragma omp simd
  for (int64_t i = first; i < last; ++i) put(out[i], wide(gate[i]) * A::share(wide(gate[i])) * wide(up[i]));
}

template <typename A, typename T>
void gate_forward(const T* gate, const T* up, T* out, int64_t count) {
  by_runs(count, [&](int64_t first, int64_t last) { gate_run<A>(gate, up, out, first, last); });
}

template <typename A, typename T>
void gate_backward(const T* grad, const T* gate, const T* up, T* grad_gate, T* grad_up, int64_t count) {
  by_runs(count, [&](int64_t first, int64_t last) {
#pragma omp simd
    for (int64_t i = first; i < last; ++i) {
      const float g = wide(grad[i]), x = wide(gate[i]), s = A::share(x);
      put(grad_gate[i], g * wide(up[i]) * A::slope(x, s));
      put(grad_up[i], g * x * s);
    }
  });
}

// [R, 2 W], every row a gate and then what goes through it -> silu(gate) up [R, W].
Tensor gated_halves(const Tensor& x) {
  const int64_t width = x.size(-1) / 2, rows = x.numel() / std::max<int64_t>(2 * width, 1);
  TORCH_CHECK(x.size(-1) % 2 == 0, "halves of ", x.sizes());
  auto sizes = x.sizes().vec();
  sizes.back() = width;
  Tensor out = at::empty(sizes, x.options());
  with_scalar_of(x, {x}, [&](auto scalar) {
    using T = decltype(scalar);
    const T* in = data<T>(x);
    T* result = data<T>(out);
    at::parallel_for(0, rows, 1, [=](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row)
        gate_run<Silu>(in + 2 * row * width, in + (2 * row + 1) * width, result + row * width, 0, width);
    });
  });
  return out;
}

// silu(gate) up, or gelu_tanh(gate) up.
Tensor gated(const Tensor& gate, const Tensor& up, bool gelu) {
  TORCH_CHECK(gate.sizes() == up.sizes(), "gate ", gate.sizes(), ", up ", up.sizes());
  Tensor out = at::empty_like(gate);
  with_scalar_of(gate, {gate, up}, [&](auto scalar) {
    using T = decltype(scalar);
    auto kernel = gelu ? gate_forward<GeluTanh, T> : gate_forward<Silu, T>;
    kernel(data<T>(gate), data<T>(up), data<T>(out), gate.numel());
  });
  return out;
}

std::tuple<Tensor, Tensor> gated_backward(const Tensor& grad, const Tensor& gate, const Tensor& up, bool gelu) {
  Tensor grad_gate = at::empty_like(gate), grad_up = at::empty_like(up);
  with_scalar_of(gate, {grad, gate, up}, [&](auto scalar) {
    using T = decltype(scalar);
    auto kernel = gelu ? gate_backward<GeluTanh, T> : gate_backward<Silu, T>;
    kernel(data<T>(grad), data<T>(gate), data<T>(up), data<T>(grad_gate), data<T>(grad_up), gate.numel());
  });
  return {grad_gate, grad_up};
}

// One head: x cos + rotate_half(x) sin, or that map's transpose.
template <bool BACK, typename T>
void turn_head(const T* x, const T* cos, const T* sin, T* out, int64_t half) {
#pragma omp simd
  for (int64_t i = 0; i < half; ++i) {
    const float a = wide(x[i]), b = wide(x[i + half]), low = wide(sin[i]), high = wide(sin[i + half]);
    put(out[i], a * wide(cos[i]) + b * (BACK ? high : -low));
    put(out[i + half], b * wide(cos[i + half]) + a * (BACK ? -low : high));
  }
}

// x [R, H, D], its last axis dense, cos and sin [R, D] -> [R, H, D].
Tensor rotary(const Tensor& x, const Tensor& cos, const Tensor& sin, bool back) {
  const int64_t heads = x.size(1), size = x.size(2), row_step = x.stride(0), head_step = x.stride(1);
  TORCH_CHECK(x.stride(2) == 1 && size % 2 == 0, "heads must be dense and of an even size");
  TORCH_CHECK(cos.numel() == x.size(0) * size && sin.numel() == cos.numel(), "angles ", cos.sizes(), " for ", x.sizes());
  Tensor out = at::empty(x.sizes(), x.options());
  with_scalar_of(x, {cos, sin}, [&](auto scalar) {
    using T = decltype(scalar);
    const T *in = data<T>(x), *c = data<T>(cos), *s = data<T>(sin);
    T* result = data<T>(out);
    auto turn = back ? turn_head<true, T> : turn_head<false, T>;
    at::parallel_for(0, x.size(0), PIECE, [=](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row)
        for (int64_t head = 0; head < heads; ++head)
          turn(in + row * row_step + head * head_step, c + row * size, s + row * size,
               result + (row * heads + head) * size, size / 2);
    });
  });
  return out;
}

// Targets are written to, so one outside the vocabulary ends here and not in foreign memory.
void check_head(const Tensor& scores, const Tensor& targets, const Tensor& one, const Tensor& other) {
  const int64_t count = scores.size(0), vocabulary = scores.size(1);
  for (const Tensor& x : {targets, one, other})
    TORCH_CHECK(x.is_contiguous() && x.numel() == count, count, " targets, contiguous, not ", x.sizes());
  TORCH_CHECK(one.scalar_type() == at::kFloat && other.scalar_type() == at::kFloat, "float32 is wanted");
  const int64_t* target = targets.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < count; ++i)
    TORCH_CHECK(target[i] >= 0 && target[i] < vocabulary, "target ", target[i], " of a vocabulary of ", vocabulary);
}

// Logits [C, V] become the probabilities of factor * logits in place; the targets' log-probs and the entropies [C] of the
// rows are read off. `powers` [V] is a thread's own.
template <typename T>
void softmax_row(T* line, int64_t vocabulary, float factor, int64_t target, float& logp, float& entropy, float* powers) {
  float largest = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : largest)
  for (int64_t v = 0; v < vocabulary; ++v) largest = wide(line[v]) > largest ? wide(line[v]) : largest;
  const float chosen = (wide(line[target]) - largest) * factor;
  double total = 0, weighted = 0;
  for (int64_t first = 0; first < vocabulary; first += RUN) {
    const int64_t last = std::min(first + RUN, vocabulary);
    float sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
    for (int64_t v = first; v < last; ++v) {
      const float score = (wide(line[v]) - largest) * factor, power = exponential(score);
      powers[v] = power;
      sum += power;
      product += power * score;
    }
    total += sum;
    weighted += product;
  }
  const float inverse = float(1.0 / total);
#pragma omp simd
  for (int64_t v = 0; v < vocabulary; ++v) put(line[v], powers[v] * inverse);
  const double normaliser = std::log(total);
  logp = float(chosen - normaliser);
  entropy = float(normaliser - weighted / total);
}

void softmax_head(
    const Tensor& logits, const Tensor& targets, const Tensor& logp, const Tensor& entropy, double factor) {
  check_head(logits, targets, logp, entropy);
  const int64_t vocabulary = logits.size(1), *target = data<int64_t>(targets);
  float *chosen = data<float>(logp), *spread = data<float>(entropy);
  with_scalar_of(logits, {logits}, [&](auto scalar) {
    using T = decltype(scalar);
    T* lines = data<T>(logits);
    at::parallel_for(0, logits.size(0), 1, [=](int64_t first, int64_t last) {
      std::vector<float> powers(static_cast<size_t>(vocabulary));
      for (int64_t row = first; row < last; ++row)
        softmax_row<T>(lines + row * vocabulary, vocabulary, float(factor), target[row], chosen[row], spread[row],
                       powers.data());
    });
  });
}

// Probabilities [C, V] become slopes of a loss by the logits in place: -slope p, and `at_target` for the target.
void softmax_head_backward(
    const Tensor& probs, const Tensor& targets, const Tensor& slopes, const Tensor& at_target) {
  check_head(probs, targets, slopes, at_target);
  const int64_t vocabulary = probs.size(1), *target = data<int64_t>(targets);
  const float *slope = data<float>(slopes), *own = data<float>(at_target);
  with_scalar_of(probs, {probs}, [&](auto scalar) {
    using T = decltype(scalar);
    T* lines = data<T>(probs);
    at::parallel_for(0, probs.size(0), 1, [=](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        T* line = lines + row * vocabulary;
        const float factor = -slope[row];
#pragma omp simd
        for (int64_t v = 0; v < vocabulary; ++v) put(line[v], wide(line[v]) * factor);
        put(line[target[row]], own[row]);
      }
    });
  });
}

INLINE void transpose_8x8(const uint16_t* in, int64_t in_stride, uint16_t* out, int64_t out_stride) {
#if defined(__SSE2__)
  __m128i a[8], b[8];
  for (int i = 0; i < 8; ++i) a[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i * in_stride));
  for (int i = 0; i < 4; ++i) {
    b[2 * i] = _mm_unpacklo_epi16(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm_unpackhi_epi16(a[2 * i], a[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 2; ++j) {
      a[4 * i + 2 * j] = _mm_unpacklo_epi32(b[4 * i + j], b[4 * i + j + 2]);
      a[4 * i + 2 * j + 1] = _mm_unpackhi_epi32(b[4 * i + j], b[4 * i + j + 2]);
    }
  for (int i = 0; i < 4; ++i) {
    const __m128i low = _mm_unpacklo_epi64(a[i], a[i + 4]), high = _mm_unpackhi_epi64(a[i], a[i + 4]);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 2 * i * out_stride), low);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + (2 * i + 1) * out_stride), high);
  }
#else
  for (int i = 0; i < 8; ++i)
    for (int j = 0; j < 8; ++j) out[j * out_stride + i] = in[i * in_stride + j];
#endif
}

// A whole tile: every cache line of the matrices is touched once, since rows may be a power of two apart.
INLINE void transpose_tile(const uint16_t* in, int64_t in_stride, uint16_t* out, int64_t out_stride) {
  alignas(64) uint16_t rows[TILE * TILE], columns[TILE * TILE];
  for (int64_t i = 0; i < TILE; ++i) std::memcpy(rows + i * TILE, in + i * in_stride, TILE * sizeof(uint16_t));
  for (int64_t i = 0; i < TILE; i += 8)
    for (int64_t j = 0; j < TILE; j += 8) transpose_8x8(rows + i * TILE + j, TILE, columns + j * TILE + i, TILE);
  for (int64_t j = 0; j < TILE; ++j) std::memcpy(out + j * out_stride, columns + j * TILE, TILE * sizeof(uint16_t));
}

// bfloat16 [R, N], its rows dense -> `out` [N, R], contiguous.
void transpose(const Tensor& x, const Tensor& out) {
  TORCH_CHECK(x.element_size() == 2 && x.scalar_type() == out.scalar_type(), "16 bits, both of one dtype");
  TORCH_CHECK(x.stride(1) == 1 && out.is_contiguous() && out.numel() == x.numel(), "dense rows, and as many elements");
  const int64_t rows = x.size(0), columns = x.size(1), stride = x.stride(0);
  const uint16_t* in = data<uint16_t>(x);
  uint16_t* to = data<uint16_t>(out);
  at::parallel_for(0, (columns + STRIP - 1) / STRIP, 1, [=](int64_t first, int64_t last) {
    const int64_t right = std::min(last * STRIP, columns);
    for (int64_t left = first * STRIP; left < right; left += STRIP)
      for (int64_t top = 0; top < rows; top += TILE)
        for (int64_t column = left; column < std::min(left + STRIP, right); column += TILE) {
          if (top + TILE <= rows && column + TILE <= columns) {
            transpose_tile(in + top * stride + column, stride, to + column * rows + top, rows);
            continue;
          }
          for (int64_t i = top; i < std::min(top + TILE, rows); ++i)
            for (int64_t j = column; j < std::min(column + TILE, columns); ++j) to[j * rows + i] = in[i * stride + j];
        }
  });
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(pangu_rl, library) {
  library.def("rms_norm(Tensor x, Tensor weight, float eps) -> (Tensor out, Tensor inverse)");
  library.def("rms_norm_backward(Tensor grad, Tensor x, Tensor weight, Tensor inverse) -> (Tensor, Tensor)");
  library.def("gated(Tensor gate, Tensor up, bool gelu) -> Tensor");
  library.def("gated_halves(Tensor x) -> Tensor");
  library.def("gated_backward(Tensor grad, Tensor gate, Tensor up, bool gelu) -> (Tensor, Tensor)");
  library.def("rotary(Tensor x, Tensor cos, Tensor sin, bool back) -> Tensor");
  library.def(
      "softmax_head(Tensor(a!) logits, Tensor targets, Tensor(b!) logp, Tensor(c!) entropy, float factor) -> ()");
  library.def("softmax_head_backward(Tensor(a!) probs, Tensor targets, Tensor slopes, Tensor at_target) -> ()");
  library.def("transpose(Tensor x, Tensor(a!) out) -> ()");
}

TORCH_LIBRARY_IMPL(pangu_rl, CPU, library) {
  library.impl("rms_norm", rms_norm);
  library.impl("rms_norm_backward", rms_norm_backward);
  library.impl("gated", gated);
  library.impl("gated_halves", gated_halves);
  library.impl("gated_backward", gated_backward);
  library.impl("rotary", rotary);
  library.impl("softmax_head", softmax_head);
  library.impl("softmax_head_backward", softmax_head_backward);
  library.impl("transpose", transpose);
}
