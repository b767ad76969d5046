// Attention over a tree of segments on a processor, in linear memory: forward with log-sum-exp, and backward.
//
// Segments are cut into tiles of at most TILE tokens. A query tile attends to the key tiles of its ancestors and of its
// own segment up to itself, with a running softmax; backward works the probabilities out again from the log-sum-exp.
// Scores are kept as [keys, queries], so that every softmax step is a plain loop over neighbouring queries. The queries
// of several heads that share a key head lie side by side in one product, 16 tokens of one head, the same of the next,
// and so on: the later keys of a tile are seen only by the right end of its own queries, and the rest is not computed.
//
// Products run as bf16 through brgemm where the processor has instructions for them (AMX, AVX-512 BF16), as float32
// elsewhere. No result depends on the number of threads: a task owns what it writes, and what several tasks add to is
// added up in a fixed order.
//
// Letters: T tokens, H heads, K key heads, D head size, n keys of a tile, m queries of a block (heads side by side),
// w the width of rows that hold m values.

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>
#include <torch/library.h>
#include <torch/types.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <limits>
#include <utility>
#include <vector>

namespace {

using at::BFloat16;
using at::Tensor;
namespace blas = at::native::cpublas;

constexpr int64_t LANES = 16;          // Tiles are padded to a multiple.
constexpr int64_t TILE = 128;          // Longest tile.
constexpr int64_t STRIP = 32;          // Keys of a tile's product with its own queries.
constexpr int64_t MOST_QUERIES = 512;  // Of a block: its scores stay in the second-level cache.
constexpr float LOG2_E = 1.44269504f, LN_2 = 0.693147181f;

typedef float Floats __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t Words __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t Word __attribute__((may_alias));
typedef uint16_t Halves __attribute__((vector_size(32), aligned(2), may_alias));

constexpr float INFINITE = std::numeric_limits<float>::infinity();

inline Floats load(const float* p) { return *reinterpret_cast<const Floats*>(p); }
inline Floats load(const BFloat16* p) {
  return reinterpret_cast<Floats>(__builtin_convertvector(*reinterpret_cast<const Halves*>(p), Words) << 16);
}
inline void store(float* p, Floats x) { *reinterpret_cast<Floats*>(p) = x; }
inline Floats spread(float x) { return x - Floats{}; }

inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
inline Floats smaller(Floats a, Floats b) { return a < b ? a : b; }

// 2^x to 2e-7 of its value, for x below 128; below -126 it is 0, and NaN stays NaN: a step with one is skipped.
inline Floats power_of_two(Floats x) {
  const Floats magic = spread(12582912.0f);  // 1.5 * 2^23: adding it rounds, and the low bits are the whole number.
  const Floats shifted = (x >= -126.0f ? x : Floats{}) + magic, rest = x - (shifted - magic);
  Floats series = spread(1.3264727313e-3f);
  series = series * rest + 9.6715129912e-3f;
  series = series * rest + 5.5507335812e-2f;
  series = series * rest + 2.4022242427e-1f;
  series = series * rest + 6.9314700365e-1f;
  series = series * rest + 1.0f;
  const Ints bits = reinterpret_cast<Ints>(series) + (reinterpret_cast<Ints>(shifted) << 23);
  return x < -126.0f ? Floats{} : reinterpret_cast<Floats>(bits);
}

inline Halves rounded(Floats x) {
  Words bits = reinterpret_cast<Words>(x);
  return __builtin_convertvector((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, Halves);
}

inline void store(BFloat16* p, Floats x) { *reinterpret_cast<Halves*>(p) = rounded(x); }

// Added up lane by lane, then the lanes in their order.
template <typename T>
inline float dot(const T* a, const T* b, int64_t size) {
  Floats lanes{};
  float sum = 0.0f;
  int64_t d = 0;
  for (; d + LANES <= size; d += LANES) lanes += load(a + d) * load(b + d);
  for (; d < size; ++d) sum += static_cast<float>(a[d]) * static_cast<float>(b[d]);
  for (int64_t i = 0; i < LANES; ++i) sum += lanes[i];
  return sum;
}

template <typename T>
inline void write_row(const float* source, T* target, int64_t size) {
  int64_t d = 0;
  for (; d + LANES <= size; d += LANES) store(target + d, load(source + d));
  for (; d < size; ++d) target[d] = static_cast<T>(source[d]);
}

// Two rows of a product's right side, in the order that it wants: bf16 takes the rows in pairs, value by value.
inline void store_pair(BFloat16* block, int64_t row, int64_t width, int64_t column, Floats even, Floats odd) {
  const Words low = __builtin_convertvector(rounded(even), Words), high = __builtin_convertvector(rounded(odd), Words);
  *reinterpret_cast<Words*>(block + (row / 2 * width + column) * 2) = low | (high << 16);
}

inline void store_pair(float* block, int64_t row, int64_t width, int64_t column, Floats even, Floats odd) {
  store(block + row * width + column, even);
  store(block + (row + 1) * width + column, odd);
}

// Neighbouring blocks of `half` lanes change places between rows that are `half` apart.
template <int half, int... lane>
inline void exchange_blocks(Words* rows, std::integer_sequence<int, lane...>) {
  for (int i = 0; i < LANES; ++i) {
    if (i & half) continue;
    const Words upper = rows[i], lower = rows[i + half];
    rows[i] = __builtin_shufflevector(upper, lower, (lane & half ? lane - half + LANES : lane)...);
    rows[i + half] = __builtin_shufflevector(upper, lower, (lane & half ? lane + LANES : lane + half)...);
  }
}

// 16 x 16 values of 32 bits, turned in place.
inline void turn_square(Words* rows) {
  constexpr auto lanes = std::make_integer_sequence<int, LANES>{};
  exchange_blocks<8>(rows, lanes);
  exchange_blocks<4>(rows, lanes);
  exchange_blocks<2>(rows, lanes);
  exchange_blocks<1>(rows, lanes);
}

// source [rows, columns] -> target [columns, rows], in values of 32 bits.
inline void turn(
    int64_t rows, int64_t columns, const Word* source, int64_t ld_source, Word* target, int64_t ld_target) {
  const int64_t whole_rows = rows / LANES * LANES, whole_columns = columns / LANES * LANES;
  for (int64_t r = 0; r < whole_rows; r += LANES)
    for (int64_t c = 0; c < whole_columns; c += LANES) {
      Words square[LANES];
      for (int64_t i = 0; i < LANES; ++i) square[i] = *reinterpret_cast<const Words*>(source + (r + i) * ld_source + c);
      turn_square(square);
      for (int64_t i = 0; i < LANES; ++i) *reinterpret_cast<Words*>(target + (c + i) * ld_target + r) = square[i];
    }
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c)
      target[c * ld_target + r] = source[r * ld_source + c];
}

// left [rows, D] as the right side [D, width] from `column` on; bf16 pairs of D lie together as it is.
template <typename C>
inline void turn_right(int64_t rows, int64_t size, const C* left, C* block, int64_t width, int64_t column) {
  constexpr int64_t values = 4 / sizeof(C);
  turn(
      rows, size / values, reinterpret_cast<const Word*>(left), size / values,
      reinterpret_cast<Word*>(block) + column, width);
}

// left [rows, D] as the right side [rows, D]: bf16 pairs of rows are laced.
inline void lace(int64_t rows, int64_t size, const BFloat16* left, BFloat16* block) {
  for (int64_t r = 0; r < rows; r += 2) {
    const auto *even = reinterpret_cast<const uint16_t*>(left + r * size), *odd = even + size;
    auto* target = reinterpret_cast<Word*>(block + r * size);
    for (int64_t d = 0; d < size; ++d) target[d] = even[d] | static_cast<uint32_t>(odd[d]) << 16;
  }
}

inline void lace(int64_t rows, int64_t size, const float* left, float* block) {
  std::memcpy(block, left, rows * size * sizeof(float));
}

// left [rows, inner] right [inner, columns] -> out [rows, columns], or added to it; rows of both are `width` apart.
template <typename C>
inline void multiply(
    int64_t rows, int64_t columns, int64_t inner, const C* left, int64_t ld_left, const C* right_side, float* out,
    int64_t width, bool add) {
  blas::brgemm(rows, columns, inner, ld_left, width, width, add, left, right_side, out, std::is_same_v<C, BFloat16>);
}

// Where a right side's column stands in its rows.
template <typename C>
constexpr int64_t place_of_column(int64_t column) { return column * (4 / sizeof(C)); }

struct Tile {
  int64_t start, size, padded;
  int64_t offset;    // Of its first row among the padded tokens.
  int64_t position;  // Of its first token in its sequence, ancestors included.
  int64_t segment;
};

struct Tree {
  std::vector<Tile> tiles;
  std::vector<int64_t> first;    // [S + 1], first tile of each segment.
  std::vector<int64_t> parents;  // [S]
  std::vector<int64_t> roots;    // First segments of the trees, and S: what different trees hold never meets.
  int64_t padded = 0;

  Tree(const Tensor& starts, const Tensor& segment_parents) {
    const auto* start = starts.const_data_ptr<int64_t>();
    const auto* parent = segment_parents.const_data_ptr<int64_t>();
    const int64_t segments = segment_parents.numel();
    std::vector<int64_t> ends(segments);
    int64_t earliest = segments;  // Lowest ancestor of any later segment.
    parents.assign(parent, parent + segments);
    for (int64_t s = 0; s < segments; ++s) {
      const int64_t length = start[s + 1] - start[s], count = (length + TILE - 1) / TILE;
      const int64_t before = parents[s] < 0 ? 0 : ends[parents[s]];
      const int64_t lanes = (length + LANES - 1) / LANES;
      ends[s] = before + length;
      first.push_back(tiles.size());
      for (int64_t i = 0; i < count; ++i) {
        const int64_t from = lanes * i / count * LANES, to = lanes * (i + 1) / count * LANES;
        tiles.push_back({start[s] + from, std::min(to, length) - from, to - from, padded, before + from, s});
        padded += to - from;
      }
    }
    first.push_back(tiles.size());
    roots.push_back(segments);
    for (int64_t s = segments - 1; s >= 0; --s) {
      earliest = std::min(earliest, parents[s] < 0 ? s : parents[s]);
      if (s == earliest) roots.push_back(s);
    }
    std::reverse(roots.begin(), roots.end());
  }

  // Key tiles that some query of `tile` sees.
  void keys(const Tile& tile, int64_t index, int64_t window, std::vector<int64_t>& found) const {
    found.clear();
    for (int64_t s = tile.segment; s >= 0; s = parents[s]) {
      const int64_t end = s == tile.segment ? index + 1 : first[s + 1];
      for (int64_t t = end - 1; t >= first[s]; --t) {
        if (window > 0 && tiles[t].position + tiles[t].size <= tile.position - window + 1) return;
        found.push_back(t);
      }
    }
  }
};

struct Shape {
  int64_t tokens, heads, key_heads, size, fold, units;
  double scale, cap;
  int64_t window;

  Shape(const Tensor& query, const Tensor& key, double scale, int64_t window, double cap, int64_t trees)
      : tokens(query.size(0)), heads(query.size(1)), key_heads(key.size(1)), size(query.size(2)), scale(scale),
        cap(cap), window(window) {
    const int64_t group = heads / key_heads;
    fold = 1;
    for (int64_t f = 1; f <= group; ++f)
      if (group % f == 0 && f * TILE <= MOST_QUERIES && heads / f * trees >= 8) fold = f;
    units = heads / fold;
  }

  int64_t key_head(int64_t unit) const { return unit * fold / (heads / key_heads); }

  // Where LANES queries of a block's head `g` stand, from `token` of the tile on, a multiple of LANES.
  int64_t column(int64_t token, int64_t g) const { return token * fold + g * LANES; }
};

// Rows of m floats lie an odd number of cache lines apart: a column of them does not crowd into few sets of the cache.
inline int64_t width_of(int64_t m) { return (m / LANES | 1) * LANES; }

// Calls do_part(row, rows, token) for what is to be computed of a block's scores: `rows` keys from `row` on against the
// queries from `token` on. A tile sees all of those before it, and of itself nothing that comes later.
template <typename F>
void for_parts(const Tile& queries, const Tile& keys, const F& do_part) {
  if (&queries != &keys) return do_part(0, keys.padded, 0);
  for (int64_t row = 0; row < keys.padded; row += STRIP) do_part(row, std::min(STRIP, keys.padded - row), row);
}

// How many keys were computed for LANES queries from `token` on.
inline int64_t computed_rows(const Tile& queries, const Tile& keys, int64_t token) {
  return &queries != &keys ? keys.padded : std::min((token / STRIP + 1) * STRIP, keys.padded);
}

// Runs task(0) ... task(count - 1), whichever thread is free taking the next.
template <typename F>
void for_each(int64_t count, const F& task) {
  std::atomic<int64_t> next{0};
  const int64_t threads = std::min<int64_t>(at::get_num_threads(), count);
  at::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    for (int64_t i = next++; i < count; i = next++) task(i);
    blas::brgemm_release();
  });
}

// `count` values of a thread's own memory, from the start of a cache line on: else half of the vectors straddle two.
template <typename T>
T* reserve(std::vector<T>& memory, int64_t count) {
  constexpr uintptr_t line = 64;
  memory.resize(count + line / sizeof(T));
  return reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(memory.data()) + line - 1) / line * line);
}

template <typename T>
struct Rows {
  const T* data;
  int64_t token, head;
  explicit Rows(const Tensor& x) : data(x.const_data_ptr<T>()), token(x.stride(0)), head(x.stride(1)) {}
  const T* at(int64_t t, int64_t h) const { return data + t * token + h * head; }
};

// The rows of a tile [n, D] for a head, zero in padding.
template <typename T, typename C>
void copy_rows(const Rows<T>& rows, const Tile& tile, int64_t head, int64_t size, C* target) {
  for (int64_t r = 0; r < tile.size; ++r) {
    const T* source = rows.at(tile.start + r, head);
    if constexpr (std::is_same_v<T, C>)
      std::memcpy(target + r * size, source, size * sizeof(C));
    else
      for (int64_t d = 0; d < size; ++d) target[r * size + d] = static_cast<C>(source[d]);
  }
  std::memset(target + tile.size * size, 0, (tile.padded - tile.size) * size * sizeof(C));
}

// [rows, D] -> [D, rows], value by value; rows of whole LANES, D even.
inline void turn_values(int64_t rows, int64_t size, const float* source, float* target) {
  turn(rows, size, reinterpret_cast<const Word*>(source), size, reinterpret_cast<Word*>(target), rows);
}

inline void turn_values(int64_t rows, int64_t size, const BFloat16* source, BFloat16* target) {
  thread_local std::vector<uint32_t> memory;
  uint32_t* pairs = reserve(memory, rows * size / 2);
  turn(rows, size / 2, reinterpret_cast<const Word*>(source), size / 2, pairs, rows);
  for (int64_t d = 0; d < size; d += 2)
    for (int64_t r = 0; r < rows; r += LANES) {
      const Words both = *reinterpret_cast<const Words*>(pairs + d / 2 * rows + r);
      *reinterpret_cast<Halves*>(target + d * rows + r) = __builtin_convertvector(both, Halves);
      *reinterpret_cast<Halves*>(target + (d + 1) * rows + r) = __builtin_convertvector(both >> 16, Halves);
    }
}

// Queries (or gradients of outputs) of a block as a right side [D, w], and where wanted as the right side [m, D].
template <typename T, typename C>
void pack_queries(
    const Rows<T>& rows, const Tile& tile, int64_t unit, const Shape& shape, C* scratch, C* turned, C* straight) {
  const int64_t width = width_of(shape.fold * tile.padded);
  for (int64_t g = 0; g < shape.fold; ++g) {
    copy_rows<T, C>(rows, tile, unit * shape.fold + g, shape.size, scratch);
    for (int64_t row = 0; row < tile.padded; row += LANES) {
      const int64_t column = shape.column(row, g);
      turn_right(LANES, shape.size, scratch + row * shape.size, turned, width, column);
      if (straight) lace(LANES, shape.size, scratch + row * shape.size, straight + column * shape.size);
    }
  }
}

// total [D, w], its columns times `factors` -> rows of `target` [T, H, D], for the heads of a unit.
template <typename T>
void write_rows(const Tile& tile, int64_t unit, const Shape& shape, float* total, const float* factors, T* target) {
  const int64_t m = shape.fold * tile.padded, width = width_of(m), size = shape.size;
  thread_local std::vector<float> memory;
  float* rows = reserve(memory, m * size);
  for (int64_t d = 0; d < size; ++d)
    for (int64_t c = 0; c < m; c += LANES)
      store(total + d * width + c, load(total + d * width + c) * load(factors + c));
  turn(size, m, reinterpret_cast<Word*>(total), width, reinterpret_cast<Word*>(rows), size);
  for (int64_t g = 0; g < shape.fold; ++g)
    for (int64_t r = 0; r < tile.size; ++r)
      write_row(rows + (shape.column(r / LANES * LANES, g) + r % LANES) * size,
          target + ((tile.start + r) * shape.heads + unit * shape.fold + g) * size, size);
}

// What LANES queries of one head see of a tile of keys: some of them the rows from `begin` to `end`, all of them those
// from `inner_begin` to `inner_end`.
struct Sight {
  int64_t begin, inner_begin, inner_end, end;
  int32_t distance;  // Of the first query from the first key.
  int32_t window;

  Sight(const Tile& queries, int64_t token, const Tile& keys, int64_t wanted) {
    const int64_t apart = queries.position + token - keys.position, last = LANES - 1;
    const auto row = [&](int64_t r) { return std::clamp<int64_t>(r, 0, keys.size); };
    constexpr int64_t most = std::numeric_limits<int32_t>::max();
    distance = static_cast<int32_t>(apart);
    window = static_cast<int32_t>(wanted > 0 ? std::min(wanted, most) : most);
    begin = wanted > 0 ? row(apart - wanted + 1) : 0;
    inner_begin = wanted > 0 ? row(apart + last - wanted + 1) : 0;
    inner_end = std::max(inner_begin, row(apart + 1));
    end = std::max(begin, row(apart + last + 1));
  }

  Floats hide(Floats scores, int64_t r) const {
    if (inner_begin <= r && r < inner_end) return scores;
    constexpr Ints lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const Ints away = lane + (distance - static_cast<int32_t>(r));
    return (away >= 0) & (away < window) ? scores : spread(-INFINITE);
  }
};

inline Floats capped(Floats scores, float cap) {
  // From 2s / cap = 88 on the cap is reached to the last digit.
  return cap - 2.0f * cap / (power_of_two(smaller(spread(88.0f), scores * (2.0f / cap)) * LOG2_E) + 1.0f);
}

// Scores [n, w], in whose place the base-2 logarithms of weights come -> `weights` of LANES queries in the running
// softmax, and the share that stays of what was summed before.
template <typename C>
Floats soften(
    const Sight& sight, int64_t rows, const Shape& shape, int64_t width, int64_t c, float* scores, C* weights,
    float* highest, float* sum) {
  const float scale = static_cast<float>(shape.scale), cap = static_cast<float>(shape.cap);
  const float to_log2 = (cap > 0 ? 1.0f : scale) * LOG2_E;
  Floats top = load(highest + c);
  for (int64_t r = sight.begin; r < sight.end; ++r) {
    Floats s = load(scores + r * width + c);
    if (cap > 0) s = capped(s * scale, cap);
    s = sight.hide(s * to_log2, r);
    store(scores + r * width + c, s);
    top = larger(top, s);
  }
  const Floats before = load(highest + c), safe = top == -INFINITE ? Floats{} : top;
  const Floats shrink = power_of_two(before - safe);
  const auto weight = [&](int64_t r) {
    return r >= sight.begin && r < sight.end ? power_of_two(load(scores + r * width + c) - safe) : Floats{};
  };
  Floats added{};
  for (int64_t r = 0; r < rows; r += 2) {
    const Floats even = weight(r), odd = weight(r + 1);
    store_pair(weights, r, width, c, even, odd);
    added += even + odd;
  }
  store(highest + c, top);
  store(sum + c, load(sum + c) * shrink + added);
  return shrink;
}

template <typename T, typename C>
void forward_block(
    const Tree& tree, const Shape& shape, int64_t index, int64_t unit, const Rows<T>& query, const C* keys,
    const C* values_turned, T* out, float* lse, std::vector<float>& floats, std::vector<C>& narrow,
    std::vector<int64_t>& seen) {
  const Tile& tile = tree.tiles[index];
  const int64_t m = shape.fold * tile.padded, width = width_of(m), size = shape.size;
  float *scores = reserve(floats, width * (TILE + size + 3)), *total = scores + width * TILE,
        *highest = total + width * size, *sum = highest + width, *factor = sum + width;
  C *queries = reserve(narrow, width * (TILE + size) + TILE * size), *weights = queries + width * size;
  pack_queries<T, C>(query, tile, unit, shape, weights + width * TILE, queries, nullptr);
  std::fill(highest, highest + m, -INFINITE);
  std::fill(sum, sum + m, 0.0f);
  std::fill(total, total + width * size, 0.0f);
  const int64_t shared = shape.key_head(unit) * tree.padded;
  tree.keys(tile, index, shape.window, seen);
  for (const int64_t j : seen) {
    const Tile& part = tree.tiles[j];
    const int64_t place = (shared + part.offset) * size;
    for_parts(tile, part, [&](int64_t row, int64_t rows, int64_t token) {
      const int64_t c = shape.column(token, 0);
      multiply<C>(
          rows, m - c, size, keys + place + row * size, size, queries + place_of_column<C>(c),
          scores + row * width + c, width, false);
    });
    for (int64_t token = 0; token < tile.padded; token += LANES) {
      const Sight sight(tile, token, part, shape.window);
      const int64_t rows = computed_rows(tile, part, token);
      for (int64_t g = 0; g < shape.fold; ++g) {
        const int64_t c = shape.column(token, g);
        store(factor + c, soften<C>(sight, rows, shape, width, c, scores, weights, highest, sum));
      }
    }
    for (int64_t d = 0; d < size; ++d)
      for (int64_t c = 0; c < m; c += LANES)
        store(total + d * width + c, load(total + d * width + c) * load(factor + c));
    for_parts(tile, part, [&](int64_t row, int64_t rows, int64_t token) {
      const int64_t c = shape.column(token, 0);
      multiply<C>(
          size, m - c, rows, values_turned + place + row, part.padded,
          weights + row * width + place_of_column<C>(c), total + c, width, true);
    });
  }
  for (int64_t c = 0; c < m; c += LANES) store(factor + c, 1.0f / load(sum + c));
  write_rows(tile, unit, shape, total, factor, out);
  for (int64_t g = 0; g < shape.fold; ++g)
    for (int64_t r = 0; r < tile.size; ++r) {
      const int64_t c = shape.column(r / LANES * LANES, g) + r % LANES;
      lse[(unit * shape.fold + g) * shape.tokens + tile.start + r] = (highest[c] + std::log2(sum[c])) * LN_2;
    }
}

template <typename T, typename C>
void forward(
    const Tree& tree, const Shape& shape, const Tensor& query, const Tensor& key, const Tensor& value, Tensor& out,
    Tensor& lse) {
  const int64_t count = tree.tiles.size(), size = shape.size;
  const auto options = query.options().dtype(c10::CppTypeToScalarType<C>::value);
  Tensor keys = at::empty({shape.key_heads, tree.padded, size}, options), turned = at::empty_like(keys);
  C *keys_data = keys.data_ptr<C>(), *turned_data = turned.data_ptr<C>();
  const Rows<T> q(query), k(key), v(value);
  for_each(count, [&](int64_t i) {
    thread_local std::vector<C> straight;
    straight.resize(TILE * size);
    for (int64_t h = 0; h < shape.key_heads; ++h) {
      const int64_t place = (h * tree.padded + tree.tiles[i].offset) * size;
      copy_rows<T, C>(k, tree.tiles[i], h, size, keys_data + place);
      copy_rows<T, C>(v, tree.tiles[i], h, size, straight.data());
      turn_values(tree.tiles[i].padded, size, straight.data(), turned_data + place);
    }
  });
  T* out_data = out.data_ptr<T>();
  float* lse_data = lse.data_ptr<float>();
  // The last blocks of a long segment see the most keys: they go first.
  for_each(count * shape.units, [&](int64_t i) {
    thread_local std::vector<float> floats;
    thread_local std::vector<C> narrow;
    thread_local std::vector<int64_t> seen;
    forward_block<T, C>(
        tree, shape, count - 1 - i / shape.units, i % shape.units, q, keys_data, turned_data, out_data, lse_data,
        floats, narrow, seen);
  });
}

template <typename T, typename C>
struct Backward {
  const Tree& tree;
  const Shape& shape;
  Rows<T> query, out, grad_out;
  const float* lse;
  const C *keys, *keys_turned, *values;
  T* grad_query;
  float *grad_keys, *grad_values;  // [units, padded tokens, D]

  // All blocks of a tree for the heads of a unit.
  void run(int64_t from, int64_t to, int64_t unit) const {
    const int64_t size = shape.size, first = tree.first[from], last = tree.first[to];
    if (first == last) return;
    const int64_t begin = tree.tiles[first].offset, end = tree.tiles[last - 1].offset + tree.tiles[last - 1].padded;
    for (float* grads : {grad_keys, grad_values}) {
      float* own = grads + (unit * tree.padded + begin) * size;
      std::fill(own, own + (end - begin) * size, 0.0f);
    }
    for (int64_t i = first; i < last; ++i) block(i, unit);
  }

  void block(int64_t index, int64_t unit) const {
    thread_local std::vector<float> floats;
    thread_local std::vector<C> narrow;
    thread_local std::vector<int64_t> seen;
    const Tile& tile = tree.tiles[index];
    const int64_t m = shape.fold * tile.padded, width = width_of(m), size = shape.size;
    float *scores = reserve(floats, width * (2 * TILE + size + 2)), *grads = scores + width * TILE,
          *total = grads + width * TILE, *sums = total + width * size, *dots = sums + width;
    C *q_turned = reserve(narrow, width * (3 * TILE + 4 * size) + TILE * size), *q = q_turned + width * size,
      *g_turned = q + width * size, *g = g_turned + width * size, *probs = g + width * size,
      *slopes = probs + width * TILE, *slopes_right = slopes + width * TILE, *scratch = slopes_right + width * TILE;
    pack_queries<T, C>(query, tile, unit, shape, scratch, q_turned, q);
    pack_queries<T, C>(grad_out, tile, unit, shape, scratch, g_turned, g);
    fill_sums(tile, unit, sums, dots);
    std::fill(total, total + width * size, 0.0f);
    const int64_t shared = shape.key_head(unit) * tree.padded, own = unit * tree.padded;
    tree.keys(tile, index, shape.window, seen);
    for (const int64_t j : seen) {
      const Tile& part = tree.tiles[j];
      const int64_t place = (shared + part.offset) * size, target = (own + part.offset) * size;
      for_parts(tile, part, [&](int64_t row, int64_t rows, int64_t token) {
        const int64_t c = shape.column(token, 0), at = row * width + c, right = place_of_column<C>(c);
        multiply<C>(rows, m - c, size, keys + place + row * size, size, q_turned + right, scores + at, width, false);
        multiply<C>(rows, m - c, size, values + place + row * size, size, g_turned + right, grads + at, width, false);
      });
      for (int64_t token = 0; token < tile.padded; token += LANES) {
        const Sight sight(tile, token, part, shape.window);
        const int64_t rows = computed_rows(tile, part, token);
        for (int64_t f = 0; f < shape.fold; ++f)
          slope(sight, rows, width, shape.column(token, f), scores, grads, sums, dots, probs, slopes, slopes_right);
      }
      for_parts(tile, part, [&](int64_t row, int64_t rows, int64_t token) {
        const int64_t c = shape.column(token, 0), at = row * width + c, to = target + row * size;
        multiply<C>(rows, size, m - c, probs + at, width, g + c * size, grad_values + to, size, true);
        multiply<C>(rows, size, m - c, slopes + at, width, q + c * size, grad_keys + to, size, true);
        multiply<C>(
            size, m - c, rows, keys_turned + place + row, part.padded,
            slopes_right + row * width + place_of_column<C>(c), total + c, width, true);
      });
    }
    const float scale = static_cast<float>(shape.scale);
    std::fill(dots, dots + m, scale);
    write_rows(tile, unit, shape, total, dots, grad_query);
  }

  // Log-sum-exp of each query to the base of 2, infinite in padding, and the dot product of its output with that
  // output's gradient.
  void fill_sums(const Tile& tile, int64_t unit, float* sums, float* dots) const {
    for (int64_t f = 0; f < shape.fold; ++f)
      for (int64_t r = 0; r < tile.padded; ++r) {
        const int64_t c = shape.column(r / LANES * LANES, f) + r % LANES;
        const int64_t head = unit * shape.fold + f, t = tile.start + r;
        sums[c] = r < tile.size ? lse[head * shape.tokens + t] * LOG2_E : INFINITE;
        dots[c] = r < tile.size ? dot(out.at(t, head), grad_out.at(t, head), shape.size) : 0.0f;
      }
  }

  // Probabilities and the slopes of the scores, of a tile's keys for LANES queries.
  void slope(
      const Sight& sight, int64_t rows, int64_t width, int64_t c, const float* scores, const float* grads,
      const float* sums, const float* dots, C* probs, C* slopes, C* slopes_right) const {
    const float scale = static_cast<float>(shape.scale), cap = static_cast<float>(shape.cap);
    const float to_log2 = (cap > 0 ? 1.0f : scale) * LOG2_E;
    const Floats sum = load(sums + c), product = load(dots + c);
    for (int64_t r = 0; r < rows; r += 2) {
      Floats pair[2] = {};
      for (int64_t i = 0; i < 2; ++i) {
        Floats p{};
        const int64_t place = (r + i) * width + c;
        if (sight.begin <= r + i && r + i < sight.end) {
          Floats s = load(scores + place);
          if (cap > 0) s = capped(s * scale, cap);
          p = power_of_two(sight.hide(s * to_log2, r + i) - sum);
          pair[i] = p * (load(grads + place) - product);
          if (cap > 0) pair[i] *= 1.0f - s * s * (1.0f / (cap * cap));
        }
        store(probs + place, p);
        store(slopes + place, pair[i]);
      }
      store_pair(slopes_right, r, width, c, pair[0], pair[1]);
    }
  }
};

template <typename T, typename C>
void backward(
    const Tree& tree, const Shape& shape, const Tensor& grad_out, const Tensor& query, const Tensor& key,
    const Tensor& value, const Tensor& out, const Tensor& lse, Tensor& grad_query, Tensor& grad_key,
    Tensor& grad_value) {
  const int64_t count = tree.tiles.size(), size = shape.size;
  const auto options = query.options().dtype(c10::CppTypeToScalarType<C>::value);
  Tensor keys = at::empty({shape.key_heads, tree.padded, size}, options);
  Tensor turned = at::empty_like(keys), values = at::empty_like(keys);
  C *keys_data = keys.data_ptr<C>(), *turned_data = turned.data_ptr<C>(), *values_data = values.data_ptr<C>();
  const Rows<T> k(key), v(value);
  for_each(count, [&](int64_t i) {
    for (int64_t h = 0; h < shape.key_heads; ++h) {
      const int64_t place = (h * tree.padded + tree.tiles[i].offset) * size;
      copy_rows<T, C>(k, tree.tiles[i], h, size, keys_data + place);
      copy_rows<T, C>(v, tree.tiles[i], h, size, values_data + place);
      turn_values(tree.tiles[i].padded, size, keys_data + place, turned_data + place);
    }
  });
  Tensor sums_k = at::empty({shape.units, tree.padded, size}, query.options().dtype(at::kFloat));
  Tensor sums_v = at::empty_like(sums_k);
  const Backward<T, C> work{
      tree, shape, Rows<T>(query), Rows<T>(out), Rows<T>(grad_out), lse.const_data_ptr<float>(), keys_data,
      turned_data, values_data, grad_query.data_ptr<T>(), sums_k.data_ptr<float>(), sums_v.data_ptr<float>()};
  const int64_t trees = tree.roots.size() - 1;
  for_each(trees * shape.units, [&](int64_t i) {
    const int64_t root = i / shape.units;
    work.run(tree.roots[root], tree.roots[root + 1], i % shape.units);
  });
  const float scale = static_cast<float>(shape.scale);
  const int64_t sharing = shape.units / shape.key_heads;
  const std::pair<const float*, std::pair<T*, float>> sums[] = {
      {sums_k.const_data_ptr<float>(), {grad_key.data_ptr<T>(), scale}},
      {sums_v.const_data_ptr<float>(), {grad_value.data_ptr<T>(), 1.0f}}};
  for_each(count, [&](int64_t i) {
    thread_local std::vector<float> sum;
    sum.resize(size);
    const Tile& tile = tree.tiles[i];
    for (const auto& [source, target] : sums)
      for (int64_t h = 0; h < shape.key_heads; ++h)
        for (int64_t r = 0; r < tile.size; ++r) {
          const float* first = source + (h * sharing * tree.padded + tile.offset + r) * size;
          for (int64_t d = 0; d < size; ++d) sum[d] = first[d];
          for (int64_t u = 1; u < sharing; ++u)
            for (int64_t d = 0; d < size; ++d) sum[d] += first[u * tree.padded * size + d];
          for (int64_t d = 0; d < size; ++d) sum[d] *= target.second;
          write_row(sum.data(), target.first + ((tile.start + r) * shape.key_heads + h) * size, size);
        }
  });
}

// Everything below reads by these sizes alone.
void check(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& starts, const Tensor& parents) {
  const int64_t segments = parents.numel();
  TORCH_CHECK(
      value.sizes() == key.sizes() && key.size(0) == query.size(0) && key.size(2) == query.size(2) &&
          query.size(1) % key.size(1) == 0 && query.size(2) % 2 == 0,
      "queries ", query.sizes(), ", keys ", key.sizes(), ", values ", value.sizes());
  TORCH_CHECK(
      starts.is_contiguous() && parents.is_contiguous() && starts.numel() == segments + 1 &&
          starts.const_data_ptr<int64_t>()[segments] == query.size(0),
      segments, " segments that do not end at token ", query.size(0));
  const auto *start = starts.const_data_ptr<int64_t>(), *parent = parents.const_data_ptr<int64_t>();
  for (int64_t s = 0; s < segments; ++s)
    TORCH_CHECK(
        (s > 0 || start[0] == 0) && start[s] <= start[s + 1] && -1 <= parent[s] && parent[s] < s, "segment ", s,
        " from token ", start[s], " to ", start[s + 1], " behind segment ", parent[s]);
  for (const Tensor& x : {query, key, value}) TORCH_CHECK(x.stride(2) == 1, "heads must be dense");
}

// Whether a product of bf16 comes out right with its right side laced. Without tiles torch does not say.
bool laced_product_is_right() {
  constexpr int64_t side = 32;
  std::vector<BFloat16> left(side * side, 1.0f), rows(side * side), laced(side * side);
  for (int64_t r = 0; r < side; ++r) std::fill_n(rows.begin() + r * side, side, static_cast<float>(r + 1));
  lace(side, side, rows.data(), laced.data());
  std::vector<float> out(side * side);
  try {
    multiply<BFloat16>(side, side, side, left.data(), side, laced.data(), out.data(), side, false);
    blas::brgemm_release();
  } catch (const std::exception&) {  // oneDNN is kept from what the processor has
    return false;
  }
  return std::all_of(out.begin(), out.end(), [](float x) { return x == side * (side + 1) / 2; });
}

bool multiplies_halves() {
  if (blas::could_pack(at::kBFloat16)) return true;  // AMX
#ifdef __AVX512BF16__
  if (!at::globalContext().userEnabledMkldnn()) return false;
  static const bool right = laced_product_is_right();
  return right;
#else
  return false;
#endif
}

std::tuple<Tensor, Tensor> tree_attention(
    const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& starts, const Tensor& parents,
    double scale, int64_t window, double cap) {
  check(query, key, value, starts, parents);
  const Tree tree(starts, parents);
  const Shape shape(query, key, scale, window, cap, tree.roots.size() - 1);
  Tensor out = at::empty(query.sizes(), query.options());
  Tensor lse = at::empty({shape.heads, shape.tokens}, query.options().dtype(at::kFloat));
  if (query.scalar_type() == at::kFloat) forward<float, float>(tree, shape, query, key, value, out, lse);
  else if (multiplies_halves()) forward<BFloat16, BFloat16>(tree, shape, query, key, value, out, lse);
  else forward<BFloat16, float>(tree, shape, query, key, value, out, lse);
  return {out, lse};
}

std::tuple<Tensor, Tensor, Tensor> tree_attention_backward(
    const Tensor& grad_out, const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& out,
    const Tensor& lse, const Tensor& starts, const Tensor& parents, double scale, int64_t window, double cap) {
  check(query, key, value, starts, parents);
  TORCH_CHECK(grad_out.sizes() == query.sizes() && out.sizes() == query.sizes() && lse.is_contiguous() &&
      lse.numel() == query.size(0) * query.size(1), "gradient ", grad_out.sizes(), " of queries ", query.sizes());
  const Tree tree(starts, parents);
  const Shape shape(query, key, scale, window, cap, tree.roots.size() - 1);
  Tensor grad_query = at::empty(query.sizes(), query.options());
  Tensor grad_key = at::empty(key.sizes(), key.options()), grad_value = at::empty(value.sizes(), value.options());
  if (query.scalar_type() == at::kFloat)
    backward<float, float>(tree, shape, grad_out, query, key, value, out, lse, grad_query, grad_key, grad_value);
  else if (multiplies_halves())
    backward<BFloat16, BFloat16>(tree, shape, grad_out, query, key, value, out, lse, grad_query, grad_key, grad_value);
  else
    backward<BFloat16, float>(tree, shape, grad_out, query, key, value, out, lse, grad_query, grad_key, grad_value);
  return {grad_query, grad_key, grad_value};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(pangu_rl, library) {
  library.def(
      "tree_attention(Tensor query, Tensor key, Tensor value, Tensor starts, Tensor parents, float scale, "
      "int window=0, float cap=0.0) -> (Tensor out, Tensor lse)");
  library.def(
      "tree_attention_backward(Tensor grad_out, Tensor query, Tensor key, Tensor value, Tensor out, Tensor lse, "
      "Tensor starts, Tensor parents, float scale, int window=0, float cap=0.0) -> "
      "(Tensor grad_query, Tensor grad_key, Tensor grad_value)");
}

TORCH_LIBRARY_IMPL(pangu_rl, CPU, library) {
  library.impl("tree_attention", tree_attention);
  library.impl("tree_attention_backward", tree_attention_backward);
}
