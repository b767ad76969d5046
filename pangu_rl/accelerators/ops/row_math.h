// Numbers of rows as the compiled kernels read, write and exponentiate them: float32 and bfloat16, float32 between.
#pragma once

#include <cstdint>

#define INLINE inline __attribute__((always_inline))

namespace pangu_rl {

struct Bf16 {
  uint16_t bits;
};

INLINE float wide(float x) { return x; }
INLINE float wide(Bf16 x) { return __builtin_bit_cast(float, uint32_t(x.bits) << 16); }

INLINE void put(float& to, float x) { to = x; }
INLINE void put(Bf16& to, float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  to.bits = uint16_t(x == x ? (bits + 0x7fff + ((bits >> 16) & 1)) >> 16 : 0x7fc0);
}

template <typename T>
INLINE float rounded(float x) {
  T result;
  put(result, x);
  return wide(result);
}

// exp within 2 units in the last place (Cephes). Below -87 it stays at the smallest normal numbers, NaN stays NaN.
INLINE float exponential(float x) {
  const float bounded = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
  const float shifted = bounded * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: the sum is rounded to a whole number
  const float n = shifted - 12582912.0f;
  const float r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return p * __builtin_bit_cast(float, (__builtin_bit_cast(uint32_t, shifted) + 127u) << 23);
}

}  // namespace pangu_rl
