// Attention over a tree of segments on a processor, in linear memory: forward with log-sum-exp, and backward.
//
// Segments are cut into tiles of at most TILE tokens. A query tile attends to the key tiles of its ancestors and of its
// own segment up to itself, with a running softmax; backward works the probabilities out again from the log-sum-exp. All
// scores are kept as [keys, queries], so that every softmax step is a plain loop over neighbouring queries, and the
// queries of several heads that share a key head lie side by side in one product.
//
// Products run as bf16 through brgemm where the processor has instructions for them (AMX, AVX-512 BF16), as float32
// elsewhere. No result depends on the number of threads: a task owns what it writes, and what several tasks add to is
// added up in a fixed order.
//
// Letters: T tokens, H heads, K key heads, D head size, n keys of a tile, m queries of a block (heads side by side).

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>
#include <torch/library.h>
#include <torch/types.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <exception>
#include <limits>
#include <vector>

namespace {

using at::BFloat16;
using at::Tensor;
namespace blas = at::native::cpublas;

constexpr int64_t TILE = 128;       // Longest tile.
constexpr int64_t STEP = 32;        // Tiles are padded to a multiple: brgemm compiles a kernel for every shape.
constexpr int64_t MOST_QUERIES = 512;  // Of a block: its scores stay in the second-level cache.
constexpr int64_t LANES = 16;

typedef float Floats __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t Words __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint16_t Halves __attribute__((vector_size(32), aligned(2), may_alias));

constexpr float INFINITE = std::numeric_limits<float>::infinity();

inline Floats load(const float* p) { return *reinterpret_cast<const Floats*>(p); }
inline void store(float* p, Floats x) { *reinterpret_cast<Floats*>(p) = x; }
inline Floats spread(float x) { return x - Floats{}; }

inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
inline Floats smaller(Floats a, Floats b) { return a < b ? a : b; }

// e^x to 2e-7 of its value, for x up to 88; below -87 it is 0, and NaN stays NaN: a step with one is skipped.
inline Floats exponential(Floats x) {
  const Floats magic = spread(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number.
  Floats clamped = x < -87.0f ? spread(-87.0f) : x;
  Floats turns = clamped * 1.44269504f;
  Floats whole = (turns + magic) - magic;
  Floats rest = (clamped - whole * 0.693359375f) - whole * -2.12194440e-4f;
  Floats series = spread(1.9875691500e-4f);
  series = series * rest + 1.3981999507e-3f;
  series = series * rest + 8.3334519073e-3f;
  series = series * rest + 4.1665795894e-2f;
  series = series * rest + 1.6666665459e-1f;
  series = series * rest + 5.0000001201e-1f;
  Floats value = series * rest * rest + rest + 1.0f;
  Ints bits = reinterpret_cast<Ints>(value) + (__builtin_convertvector(whole, Ints) << 23);
  return x < -87.0f ? Floats{} : reinterpret_cast<Floats>(bits);
}

inline Halves rounded(Floats x) {
  Words bits = reinterpret_cast<Words>(x);
  return __builtin_convertvector((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, Halves);
}

inline void store(BFloat16* p, Floats x) { *reinterpret_cast<Halves*>(p) = rounded(x); }

template <typename T>
inline void write_row(const float* source, T* target, int64_t size) {
  int64_t d = 0;
  for (; d + LANES <= size; d += LANES) store(target + d, load(source + d));
  for (; d < size; ++d) target[d] = static_cast<T>(source[d]);
}

// Two rows of a product's right side, in the order that it wants: bf16 takes the rows in pairs, value by value.
inline void store_pair(BFloat16* block, int64_t row, int64_t width, int64_t column, Floats even, Floats odd) {
  Words low = __builtin_convertvector(rounded(even), Words), high = __builtin_convertvector(rounded(odd), Words);
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
    int64_t rows, int64_t columns, const uint32_t* source, int64_t ld_source, uint32_t* target, int64_t ld_target) {
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
      rows, size / values, reinterpret_cast<const uint32_t*>(left), size / values,
      reinterpret_cast<uint32_t*>(block) + column, width);
}

// left [rows, D] as the right side [rows, D]: bf16 pairs of rows are laced.
inline void lace(int64_t rows, int64_t size, const BFloat16* left, BFloat16* block) {
  for (int64_t r = 0; r < rows; r += 2) {
    const auto *even = reinterpret_cast<const uint16_t*>(left + r * size), *odd = even + size;
    auto* target = reinterpret_cast<uint32_t*>(block + r * size);
    for (int64_t d = 0; d < size; ++d) target[d] = even[d] | static_cast<uint32_t>(odd[d]) << 16;
  }
}

inline void lace(int64_t rows, int64_t size, const float* left, float* block) {
  std::memcpy(block, left, rows * size * sizeof(float));
}

// left [rows, inner] right [inner, columns] -> out [rows, columns], or added to it.
template <typename C>
inline void multiply(
    int64_t rows, int64_t columns, int64_t inner, const C* left, int64_t ld_left, const C* right_side, float* out,
    bool add) {
  blas::brgemm(
      rows, columns, inner, ld_left, columns, columns, add, left, right_side, out, std::is_same_v<C, BFloat16>);
}

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
      ends[s] = before + length;
      first.push_back(tiles.size());
      for (int64_t i = 0; i < count; ++i) {
        const int64_t from = length * i / count, to = length * (i + 1) / count;
        const int64_t room = (to - from + STEP - 1) / STEP * STEP;
        tiles.push_back({start[s] + from, to - from, room, padded, before + from, s});
        padded += room;
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
};

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

// [rows, D] -> [D, rows], value by value.
template <typename C>
void turn_values(int64_t rows, int64_t size, const C* source, C* target) {
  if constexpr (sizeof(C) == 4)
    turn(rows, size, reinterpret_cast<const uint32_t*>(source), size, reinterpret_cast<uint32_t*>(target), rows);
  else
    for (int64_t d = 0; d < size; ++d)
      for (int64_t r = 0; r < rows; ++r) target[d * rows + r] = source[r * size + d];
}

// Queries (or gradients of outputs) of a block as a right side [D, m], and where wanted as the right side [m, D].
template <typename T, typename C>
void pack_queries(
    const Rows<T>& rows, const Tile& tile, int64_t unit, const Shape& shape, C* scratch, C* turned, C* straight) {
  for (int64_t g = 0; g < shape.fold; ++g) {
    const int64_t column = g * tile.padded;
    copy_rows<T, C>(rows, tile, unit * shape.fold + g, shape.size, scratch);
    turn_right(tile.padded, shape.size, scratch, turned, shape.fold * tile.padded, column);
    if (straight) lace(tile.padded, shape.size, scratch, straight + column * shape.size);
  }
}

// total [D, m], its columns times `factors` -> rows of `target` [T, H, D], for the heads of a unit.
template <typename T>
void write_rows(const Tile& tile, int64_t unit, const Shape& shape, float* total, const float* factors, T* target) {
  const int64_t m = shape.fold * tile.padded, size = shape.size;
  thread_local std::vector<float> rows;
  rows.resize(m * size);
  for (int64_t d = 0; d < size; ++d)
    for (int64_t c = 0; c < m; c += LANES) store(total + d * m + c, load(total + d * m + c) * load(factors + c));
  turn(size, m, reinterpret_cast<uint32_t*>(total), m, reinterpret_cast<uint32_t*>(rows.data()), size);
  for (int64_t g = 0; g < shape.fold; ++g)
    for (int64_t r = 0; r < tile.size; ++r)
      write_row(rows.data() + (g * tile.padded + r) * size,
          target + ((tile.start + r) * shape.heads + unit * shape.fold + g) * size, size);
}

// Positions of a block's queries in their sequences.
void fill_positions(const Tile& tile, int64_t fold, int32_t* positions) {
  for (int64_t g = 0; g < fold; ++g)
    for (int64_t r = 0; r < tile.padded; ++r)
      positions[g * tile.padded + r] = static_cast<int32_t>(tile.position + r);
}

// What the queries of a tile see of a tile of keys.
struct Sight {
  int32_t first, window;
  bool all;

  Sight(const Tile& queries, const Tile& keys, int64_t wanted)
      : first(static_cast<int32_t>(keys.position)),
        window(wanted > 0 ? static_cast<int32_t>(wanted) : std::numeric_limits<int32_t>::max()) {
    all = keys.position + keys.size - 1 <= queries.position && queries.position + queries.size - 1 - first < window;
  }

  Floats hide(Floats scores, int64_t row, const int32_t* positions) const {
    if (all) return scores;
    const Ints distance = *reinterpret_cast<const Ints*>(positions) - (first + static_cast<int32_t>(row));
    return (distance >= 0) & (distance < window) ? scores : spread(-INFINITE);
  }
};

inline Floats capped(Floats scores, float cap) {
  // From 2s / cap = 88 on the cap is reached to the last digit.
  return cap - 2.0f * cap / (exponential(smaller(scores * (2.0f / cap), spread(88.0f))) + 1.0f);
}

template <typename T, typename C>
void forward_block(
    const Tree& tree, const Shape& shape, int64_t index, int64_t unit, const Rows<T>& query, const C* keys,
    const C* values_turned, T* out, float* lse, std::vector<float>& floats, std::vector<C>& narrow,
    std::vector<int64_t>& seen) {
  const Tile& tile = tree.tiles[index];
  const int64_t m = shape.fold * tile.padded, size = shape.size;
  floats.resize(m * (TILE + size + 4));
  narrow.resize(m * (TILE + size) + TILE * size);
  float *scores = floats.data(), *total = scores + m * TILE, *highest = total + m * size, *sum = highest + m,
        *factor = sum + m;
  int32_t* positions = reinterpret_cast<int32_t*>(factor + m);
  C *queries = narrow.data(), *weights = queries + m * size;
  pack_queries<T, C>(query, tile, unit, shape, weights + m * TILE, queries, nullptr);
  fill_positions(tile, shape.fold, positions);
  std::fill(highest, highest + m, -INFINITE);
  std::fill(sum, sum + m, 0.0f);
  std::fill(total, total + m * size, 0.0f);
  const float scale = static_cast<float>(shape.scale), cap = static_cast<float>(shape.cap);
  const int64_t shared = shape.key_head(unit) * tree.padded;
  tree.keys(tile, index, shape.window, seen);
  for (const int64_t j : seen) {
    const Tile& part = tree.tiles[j];
    const Sight sight(tile, part, shape.window);
    multiply<C>(part.padded, m, size, keys + (shared + part.offset) * size, size, queries, scores, false);
    for (int64_t c = 0; c < m; c += LANES) {
      Floats top = load(highest + c);
      for (int64_t r = 0; r < part.size; ++r) {
        Floats s = load(scores + r * m + c) * scale;
        if (cap > 0) s = capped(s, cap);
        s = sight.hide(s, r, positions + c);
        store(scores + r * m + c, s);
        top = larger(top, s);
      }
      const Floats before = load(highest + c), safe = top == -INFINITE ? Floats{} : top;
      const Floats shrink = exponential(before - safe);
      Floats added{};
      for (int64_t r = 0; r < part.padded; r += 2) {
        const Floats even = r < part.size ? exponential(load(scores + r * m + c) - safe) : Floats{};
        const Floats odd = r + 1 < part.size ? exponential(load(scores + (r + 1) * m + c) - safe) : Floats{};
        store_pair(weights, r, m, c, even, odd);
        added += even + odd;
      }
      store(highest + c, top);
      store(factor + c, shrink);
      store(sum + c, load(sum + c) * shrink + added);
    }
    for (int64_t d = 0; d < size; ++d)
      for (int64_t c = 0; c < m; c += LANES)
        store(total + d * m + c, load(total + d * m + c) * load(factor + c));
    multiply<C>(
        size, m, part.padded, values_turned + (shared + part.offset) * size, part.padded, weights, total, true);
  }
  for (int64_t c = 0; c < m; c += LANES) store(factor + c, 1.0f / load(sum + c));
  write_rows(tile, unit, shape, total, factor, out);
  for (int64_t g = 0; g < shape.fold; ++g)
    for (int64_t r = 0; r < tile.size; ++r) {
      const int64_t c = g * tile.padded + r;
      lse[(unit * shape.fold + g) * shape.tokens + tile.start + r] = highest[c] + std::log(sum[c]);
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
    const int64_t m = shape.fold * tile.padded, size = shape.size;
    floats.resize(m * (2 * TILE + size + 3));
    narrow.resize(m * (3 * TILE + 4 * size) + TILE * size);
    float *scores = floats.data(), *grads = scores + m * TILE, *total = grads + m * TILE, *sums = total + m * size,
          *dots = sums + m;
    int32_t* positions = reinterpret_cast<int32_t*>(dots + m);
    C *q_turned = narrow.data(), *q = q_turned + m * size, *g_turned = q + m * size, *g = g_turned + m * size,
      *probs = g + m * size, *slopes = probs + m * TILE, *slopes_right = slopes + m * TILE,
      *scratch = slopes_right + m * TILE;
    pack_queries<T, C>(query, tile, unit, shape, scratch, q_turned, q);
    pack_queries<T, C>(grad_out, tile, unit, shape, scratch, g_turned, g);
    fill_positions(tile, shape.fold, positions);
    fill_sums(tile, unit, sums, dots);
    std::fill(total, total + m * size, 0.0f);
    const int64_t shared = shape.key_head(unit) * tree.padded, own = unit * tree.padded;
    tree.keys(tile, index, shape.window, seen);
    for (const int64_t j : seen) {
      const Tile& part = tree.tiles[j];
      const Sight sight(tile, part, shape.window);
      const int64_t n = part.padded, place = (shared + part.offset) * size, target = (own + part.offset) * size;
      multiply<C>(n, m, size, keys + place, size, q_turned, scores, false);
      multiply<C>(n, m, size, values + place, size, g_turned, grads, false);
      for (int64_t r = 0; r < n; r += 2)
        slope_rows(
            sight, part.size, r, m, scores, grads, sums, dots, positions, probs, slopes, slopes_right);
      multiply<C>(n, size, m, probs, m, g, grad_values + target, true);
      multiply<C>(n, size, m, slopes, m, q, grad_keys + target, true);
      multiply<C>(size, m, n, keys_turned + place, n, slopes_right, total, true);
    }
    const float scale = static_cast<float>(shape.scale);
    std::fill(dots, dots + m, scale);
    write_rows(tile, unit, shape, total, dots, grad_query);
  }

  // Log-sum-exp of each query, infinite in padding, and the dot product of its output with that output's gradient.
  void fill_sums(const Tile& tile, int64_t unit, float* sums, float* dots) const {
    for (int64_t f = 0; f < shape.fold; ++f)
      for (int64_t r = 0; r < tile.padded; ++r) {
        const int64_t c = f * tile.padded + r, head = unit * shape.fold + f, t = tile.start + r;
        sums[c] = r < tile.size ? lse[head * shape.tokens + t] : INFINITE;
        dots[c] = 0.0f;
        if (r >= tile.size) continue;
        const T *o = out.at(t, head), *d = grad_out.at(t, head);
        float dot = 0.0f;
        for (int64_t i = 0; i < shape.size; ++i) dot += static_cast<float>(o[i]) * static_cast<float>(d[i]);
        dots[c] = dot;
      }
  }

  // Probabilities and the slopes of the scores, of two keys for all queries of the block.
  void slope_rows(
      const Sight& sight, int64_t keys, int64_t r, int64_t m, const float* scores, const float* grads,
      const float* sums, const float* dots, const int32_t* positions, C* probs, C* slopes, C* slopes_right) const {
    const float scale = static_cast<float>(shape.scale), cap = static_cast<float>(shape.cap);
    for (int64_t c = 0; c < m; c += LANES) {
      Floats pair[2] = {};
      for (int64_t i = 0; i < 2; ++i) {
        Floats p{};
        if (r + i < keys) {
          const int64_t place = (r + i) * m + c;
          Floats s = load(scores + place) * scale;
          if (cap > 0) s = capped(s, cap);
          p = exponential(sight.hide(s, r + i, positions + c) - load(sums + c));
          pair[i] = p * (load(grads + place) - load(dots + c));
          if (cap > 0) pair[i] *= 1.0f - s * s * (1.0f / (cap * cap));
        }
        store(probs + (r + i) * m + c, p);
        store(slopes + (r + i) * m + c, pair[i]);
      }
      store_pair(slopes_right, r, m, c, pair[0], pair[1]);
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
    multiply<BFloat16>(side, side, side, left.data(), side, laced.data(), out.data(), false);
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
