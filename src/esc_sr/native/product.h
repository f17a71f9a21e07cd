// Products of small matrices, which all convolutions here are made of.
#pragma once

#include "levels.h"
#include "vectors.h"

namespace {

ESC_INLINE int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
ESC_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
ESC_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// A row of a picture is worked on as (columns, channels): one pixel after the other, each with its channels
// filled up by zeros to whole vectors on every level, `pitch(channels)` floats.
ESC_INLINE int64_t pitch(int64_t channels) { return up(channels, 16); }

struct Matrix {  // rows that lie a pitch apart; with pitch 0 they are all the same one
    const float* first;
    int64_t pitch;

    ESC_INLINE const float* at(int64_t row, int64_t column) const { return first + row * pitch + column; }
};

// C (kRows, kWide vectors) = start + A B; see `multiply`.
template <bool kTurned, int kRows, int kWide>
void tile(float* c, int64_t c_pitch, Matrix start, Matrix a, Matrix b, int64_t depth) {
    Vec acc[kRows][kWide];
    ESC_EACH(r, kRows) ESC_EACH(v, kWide) acc[r][v] = load(start.at(r, v * kLanes));
    for (int64_t k = 0; k < depth; k++, a.first += kTurned ? a.pitch : 1, b.first += b.pitch) {
        Vec in[kWide];
        ESC_EACH(v, kWide) in[v] = load(b.first + v * kLanes);
        ESC_EACH(r, kRows) {
            const float x = kTurned ? a.first[r] : *a.at(r, 0);
            ESC_EACH(v, kWide) acc[r][v] += in[v] * x;
        }
    }
    ESC_EACH(r, kRows) ESC_EACH(v, kWide) store(c + r * c_pitch + v * kLanes, acc[r][v]);
}

using Tile = void (*)(float*, int64_t, Matrix, Matrix, Matrix, int64_t);

template <bool kTurned, int kWide, int... kNumbers>
struct Tiles {
    static constexpr Tile of[] = {tile<kTurned, kNumbers, kWide>...};
};

// By how many vectors wide: rows at once that leave registers for the rest, and the tiles up to that.
#if defined(__AVX512F__)  // 32 registers
constexpr int64_t kWidest = 5, kRowsOf[] = {0, 16, 12, 8, 6, 5};
template <bool kTurned>
constexpr const Tile* kProducts[] = {
    nullptr,
    Tiles<kTurned, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16>::of,
    Tiles<kTurned, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12>::of,
    Tiles<kTurned, 3, 1, 2, 3, 4, 5, 6, 7, 8>::of,
    Tiles<kTurned, 4, 1, 2, 3, 4, 5, 6>::of,
    Tiles<kTurned, 5, 1, 2, 3, 4, 5>::of};
#else  // 16 registers
constexpr int64_t kWidest = 3, kRowsOf[] = {0, 8, 6, 4};
template <bool kTurned>
constexpr const Tile* kProducts[] = {nullptr, Tiles<kTurned, 1, 1, 2, 3, 4, 5, 6, 7, 8>::of,
                                     Tiles<kTurned, 2, 1, 2, 3, 4, 5, 6>::of,
                                     Tiles<kTurned, 3, 1, 2, 3, 4>::of};
#endif

// The i-th of `parts` nearly equal parts of n begins here.
ESC_INLINE int64_t cut(int64_t n, int64_t i, int64_t parts) { return n * i / parts; }

// C (rows, columns) = start + A B; start may be C. A is (rows, depth) or, turned, (depth, rows); B is (depth,
// columns). Columns are filled up to whole pitches in B, C and start.
template <bool kTurned>
void multiply(float* c, int64_t c_pitch, Matrix start, Matrix a, Matrix b, int64_t rows, int64_t columns,
              int64_t depth) {
    const int64_t vectors = pitch(columns) / kLanes, across = (vectors + kWidest - 1) / kWidest;
    for (int64_t i = 0; i < across; i++) {
        const int64_t left = cut(vectors, i, across), wide = cut(vectors, i + 1, across) - left;
        const int64_t down = (rows + kRowsOf[wide] - 1) / kRowsOf[wide], x = left * kLanes;
        for (int64_t j = 0; j < down; j++) {
            const int64_t top = cut(rows, j, down), high = cut(rows, j + 1, down) - top;
            const Matrix from = {kTurned ? a.first + top : a.at(top, 0), a.pitch};
            kProducts<kTurned>[wide][high - 1](c + top * c_pitch + x, c_pitch, {start.at(top, x), start.pitch}, from,
                                               {b.first + x, b.pitch}, depth);
        }
    }
}

// Cuts one thread's memory into pieces; with base null it only counts.
struct Memory {
    float* base;
    int64_t used = 0;

    template <class Number = float>
    Number* take(int64_t numbers) {
        float* piece = base ? base + used : nullptr;
        used += up((numbers * int64_t(sizeof(Number)) + 3) / 4, 16);
        return reinterpret_cast<Number*>(piece);
    }
};

// Products of floats, for what can be computed with others too (half_products.h).
struct Exact {
    static constexpr bool kRounds = false;
    struct Scope {};  // lives while products are computed

    using Factor = Matrix;  // (depth, columns)

    Exact(Memory&, int64_t, int64_t) {}

    static Factor factor(Memory&, const float* values, int64_t, int64_t columns) {
        return {values, pitch(columns)};
    }
    static void prepare(Factor&) {}

    // C (rows, columns) = start + A B
    static void apply(float* c, int64_t c_pitch, Matrix start, Matrix a, const Factor& b, int64_t rows,
                      int64_t columns, int64_t depth) {
        multiply<false>(c, c_pitch, start, a, b, rows, columns, depth);
    }

    // C (rows, columns) += A B, A turned: (depth, rows)
    static void gather(float* c, Matrix a, Matrix b, int64_t rows, int64_t columns, int64_t depth) {
        const int64_t c_pitch = pitch(columns);
        multiply<true>(c, c_pitch, {c, c_pitch}, a, b, rows, columns, depth);
    }
};

// Rows are cut into tiles of columns; those around a tile are there as far as a kernel reaches. Column c lies
// c - left + kMargin pixels behind a row's begin, `left` the tile's first column.
constexpr int64_t kColumns = 64, kMargin = 16, kWhole = kColumns + 2 * kMargin;

struct Span {  // columns first <= column < last
    int64_t left, first, last;

    int64_t at() const { return first - left + kMargin; }
    int64_t count() const { return last - first; }
};

// The tile's columns and `more` of their neighbours on each side, where the picture has them.
ESC_INLINE Span span(int64_t left, int64_t width, int64_t more) {
    return {left, most(left - more, 0), least(least(left + kColumns, width) + more, width)};
}

// Where the first of the columns of a row of a map lies.
template <class Number = float>
ESC_INLINE Number* at(const Map& map, int64_t picture, int64_t row, const Span& s) {
    return static_cast<Number*>(map.data) + picture * map.picture + row * map.row + s.first * map.column;
}

// Some channels of one row of a map, or back; `to` and `from` are the first of the columns.
ESC_INLINE void load_part(float* to, int64_t to_pitch, const Map& from, int64_t picture, int64_t row,
                          int64_t channels, const Span& s) {
#if defined(__AVX512BF16__)
    if (from.half)
        return copy(to, to_pitch, at<Half>(from, picture, row, s), from.column, s.count(), channels);
#endif
    copy(to, to_pitch, 1, at(from, picture, row, s), from.column, from.channel, s.count(), channels, 1);
}

ESC_INLINE void store_row(const Map& to, int64_t picture, int64_t row, const float* from, int64_t from_pitch,
                          int64_t channels, const Span& s) {
#if defined(__AVX512BF16__)
    if (to.half)
        return copy(at<Half>(to, picture, row, s), to.column, from, from_pitch, s.count(), channels);
#endif
    copy(at(to, picture, row, s), to.column, to.channel, from, from_pitch, 1, s.count(), channels, 1);
}

// One row of a map. Channels that are not there become zeros.
ESC_INLINE void load_row(float* to, const Map& from, int64_t picture, int64_t row, int64_t channels,
                         const Span& s) {
    const int64_t whole = pitch(channels);
    if (whole > channels) memset(to, 0, sizeof(float) * whole * s.count());
    load_part(to, whole, from, picture, row, channels, s);
}

// Whether a map's pixels lie as those of a row that is worked on do, so that products can take and give them there.
ESC_INLINE bool lies_whole(const Map& map, int64_t channels) {
    return !map.half && map.channel == 1 && channels == pitch(channels);
}

// One row of a map, where it lies or in `to`.
ESC_INLINE Matrix read_row(float* to, const Map& from, int64_t picture, int64_t row, int64_t channels,
                           const Span& s) {
    if (lies_whole(from, channels)) {
        const Matrix there = {at<float>(from, picture, row, s), from.column};
        for (int64_t x = 0; x < s.count(); x++)
            for (int64_t c = 0; c < channels; c += 16) __builtin_prefetch(there.at(x, c) + from.row, 0, 2);
        return there;
    }
    load_row(to, from, picture, row, channels, s);
    return {to, pitch(channels)};
}

// What a row of products starts from: the biases at every pixel or, where there are none, zeros in `row`.
ESC_INLINE Matrix biases(float* row, const float* bias, int64_t channels, int64_t count) {
    if (bias) return {bias, 0};
    memset(row, 0, sizeof(float) * pitch(channels) * count);
    return {row, pitch(channels)};
}

// to = a row + the biases, if there are any, at each pixel.
ESC_INLINE Matrix add_biases(float* to, Matrix row, const float* bias, int64_t channels, int64_t count) {
    if (!bias) return row;
    const int64_t whole = pitch(channels);
    for (int64_t x = 0; x < count; x++)
        for (int64_t c = 0; c < whole; c += kLanes) store(to + x * whole + c, load(row.at(x, c)) + load(bias + c));
    return {to, whole};
}

// sums (channels) += a row added up.
void add_row(float* sums, const float* row, int64_t channels, int64_t count) {
    const int64_t whole = pitch(channels);
    for (int64_t c = 0; c < whole; c += kLanes) {
        Vec sum{};
        for (int64_t x = 0; x < count; x++) sum += load(row + x * whole + c);
        store(sums + c, load(sums + c) + sum);
    }
}

ESC_INLINE float total(Vec x) {
    typedef float Four __attribute__((vector_size(16)));
#if defined(__AVX512F__)
    typedef float Eight __attribute__((vector_size(32)));
    const Eight half = __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7) +
                       __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15);
    const Four sum = __builtin_shufflevector(half, half, 0, 1, 2, 3) +
                     __builtin_shufflevector(half, half, 4, 5, 6, 7);
#elif defined(__AVX2__)
    const Four sum = __builtin_shufflevector(x, x, 0, 1, 2, 3) + __builtin_shufflevector(x, x, 4, 5, 6, 7);
#else
    const Four sum = x;
#endif
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

// to = a row, each pixel brought to mean 0 and variance 1; the zeros that fill up its channels stay. It may be there.
Matrix normalise_row(float* to, Matrix row, int64_t channels, int64_t count, float epsilon) {
    const int64_t whole = pitch(channels);
    for (int64_t x = 0; x < count; x++, to += whole) {
        Vec sum{}, square{};
        for (int64_t c = 0; c < whole; c += kLanes) sum += load(row.at(x, c));
        const float mean = total(sum) / float(channels);
        for (int64_t c = 0; c < channels; c += kLanes) {
            Vec here = load(row.at(x, c)) - mean;
            for (int64_t l = channels - c; l < kLanes; l++) here[l] = 0;
            square += here * here;
            store(to + c, here);
        }
        const float scale = 1.f / __builtin_sqrtf(total(square) / float(channels) + epsilon);
        for (int64_t c = 0; c < channels; c += kLanes) store(to + c, load(to + c) * scale);
    }
    return {to - count * whole, whole};
}

// Which items there are: pictures, cut into strips of rows, cut into tiles of columns.
struct Items {
    static constexpr int64_t kRows = 32;
    int64_t strips, tiles, number, height, width;

    Items(int64_t pictures, int64_t height, int64_t width)
        : strips((height + kRows - 1) / kRows), tiles((width + kColumns - 1) / kColumns),
          number(pictures * strips * tiles), height(height), width(width) {}

    int64_t picture(int64_t item) const { return item / (strips * tiles); }
    int64_t top(int64_t item) const { return item / tiles % strips * kRows; }
    int64_t bottom(int64_t item) const { return least(top(item) + kRows, height); }
    int64_t left(int64_t item) const { return item % tiles * kColumns; }
};

// How many there are of a problem on pictures.
template <class Problem>
int64_t row_items(const void* problem) {
    const auto& p = *static_cast<const Problem*>(problem);
    return Items(p.pictures, p.height, p.width).number;
}

}  // namespace
