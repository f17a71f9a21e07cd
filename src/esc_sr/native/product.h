// Products of small matrices, which all convolutions here are made of.
#pragma once

#include "levels.h"
#include "vectors.h"

namespace {

ESC_INLINE int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
ESC_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
ESC_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// A picture's rows are worked on in tiles of columns. What belongs to column c lies at c - left + kMargin in
// rows of kPitch floats, one row for each channel; columns around a tile are there as far as kernels reach.
constexpr int64_t kMargin = 16, kColumns = 96, kPitch = kColumns + 48;

// C (kRows, kWide vectors) += A B; see `multiply`.
template <bool kTurned, int kRows, int kWide>
void tile(float* c, int64_t c_row, const float* a, int64_t a_row, const float* b, int64_t b_row,
          int64_t depth) {
    Vec acc[kRows][kWide];
    ESC_EACH(r, kRows) ESC_EACH(v, kWide) acc[r][v] = load(c + r * c_row + v * kLanes);
    for (int64_t k = 0; k < depth; k++, a += kTurned ? a_row : 1, b += b_row) {
        Vec in[kWide];
        ESC_EACH(v, kWide) in[v] = load(b + v * kLanes);
        ESC_EACH(r, kRows) {
            const float x = a[kTurned ? r : r * kPitch];
            ESC_EACH(v, kWide) acc[r][v] += in[v] * x;
        }
    }
    ESC_EACH(r, kRows) ESC_EACH(v, kWide) store(c + r * c_row + v * kLanes, acc[r][v]);
}

using Tile = void (*)(float*, int64_t, const float*, int64_t, const float*, int64_t, int64_t);

template <bool kTurned, int kWide, int... kNumbers>
struct Tiles {
    static constexpr Tile of[] = {tile<kTurned, kNumbers, kWide>...};
};

#if defined(__AVX512F__)  // 32 registers
constexpr int kRowsOf[] = {0, 16, 12, 8};
template <bool kTurned>
constexpr const Tile* kProducts[] = {
    nullptr, Tiles<kTurned, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16>::of,
    Tiles<kTurned, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12>::of, Tiles<kTurned, 3, 1, 2, 3, 4, 5, 6, 7, 8>::of};
#else  // 16 registers
constexpr int kRowsOf[] = {0, 8, 6, 4};
template <bool kTurned>
constexpr const Tile* kProducts[] = {nullptr, Tiles<kTurned, 1, 1, 2, 3, 4, 5, 6, 7, 8>::of,
                                  Tiles<kTurned, 2, 1, 2, 3, 4, 5, 6>::of,
                                  Tiles<kTurned, 3, 1, 2, 3, 4>::of};
#endif

// C (rows, columns) += A B. A is (rows, depth) with rows of kPitch, or, turned, (depth, rows) with rows of
// a_row; B is (depth, columns), columns are whole vectors.
template <bool kTurned>
void multiply(float* c, int64_t c_row, const float* a, int64_t a_row, const float* b, int64_t b_row,
              int64_t rows, int64_t columns, int64_t depth) {
    for (int64_t vectors = columns / kLanes, wide; vectors > 0; vectors -= wide) {
        wide = vectors == 4 ? 2 : least(vectors, 3);
        const int64_t parts = (rows + kRowsOf[wide] - 1) / kRowsOf[wide];
        for (int64_t part = 0; part < parts; part++) {
            const int64_t first = rows * part / parts, count = rows * (part + 1) / parts - first;
            kProducts<kTurned>[wide][count - 1](c + first * c_row, c_row, a + first * (kTurned ? 1 : kPitch),
                                                a_row, b, b_row, depth);
        }
        c += wide * kLanes, b += wide * kLanes;
    }
}

// Cuts one thread's memory into pieces; with base null it only counts.
struct Memory {
    float* base;
    int64_t used = 0;

    float* take(int64_t floats) {
        float* piece = base ? base + used : nullptr;
        used += up(floats, 16);
        return piece;
    }
};

struct Span {  // columns first <= column < last of a tile that begins at `left`
    int64_t left, first, last;

    int64_t at() const { return first - left + kMargin; }
    int64_t count() const { return last - first; }
    int64_t whole() const { return up(count(), kLanes); }  // as many as the vectors that they take have
};

// The tile's columns and `more` of their neighbours on each side, where the picture has them.
ESC_INLINE Span span(int64_t left, int64_t width, int64_t more) {
    return {left, most(left - more, 0), least(least(left + kColumns, width) + more, width)};
}

// Where a row of a map begins. The row below is fetched from memory meanwhile: processors foresee the columns of
// a row, not the next row of each channel.
ESC_INLINE const float* at(const Map& from, int64_t picture, int64_t row, int64_t channels, const Span& s) {
    const float* first = from.data + picture * from.picture + row * from.row + s.first * from.column;
    if (from.column == 1)
        for (int64_t i = 0; i < channels; i++)
            for (int64_t c = 0; c < s.count(); c += 16)
                __builtin_prefetch(first + from.row + i * from.channel + c);
    return first;
}

// (channels, columns) of one row of a map, or back.
void load_row(float* to, const Map& from, int64_t picture, int64_t row, int64_t channels, const Span& s) {
    copy(to + s.at(), kPitch, 1, at(from, picture, row, channels, s), from.channel, from.column, channels,
         s.count(), 1);
}

void store_row(const Map& to, int64_t picture, int64_t row, const float* from, int64_t channels,
               const Span& s) {
    copy(to.data + picture * to.picture + row * to.row + s.first * to.column, to.channel, to.column,
         from + s.at(), kPitch, 1, channels, s.count(), 1);
}

// (columns, channels) of one row, `pitch` floats a column.
void load_turned(float* to, int64_t pitch, const Map& from, int64_t picture, int64_t row, int64_t channels,
                 const Span& s) {
    copy(to, 1, pitch, at(from, picture, row, channels, s), from.channel, from.column, channels, s.count(), 1);
}

// Every channel's row starts as its bias, or as zeros.
void fill_rows(float* rows, const float* bias, int64_t channels, const Span& s) {
    for (int64_t i = 0; i < channels; i++)
        for (int64_t c = 0; c < s.whole(); c += kLanes)
            store(rows + i * kPitch + s.at() + c, splat(bias ? bias[i] : 0));
}

// Set to zero what a kernel that reaches `more` columns sees outside of the picture.
void clear_outside(float* rows, int64_t channels, const Span& s, int64_t width, int64_t more) {
    for (int64_t i = 0; i < channels; i++, rows += kPitch) {
        if (s.first == 0) memset(rows + s.at() - more, 0, sizeof(float) * more);
        if (s.last == width) memset(rows + s.at() + s.count(), 0, sizeof(float) * more);
    }
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

// x with zeros behind its first `count` lanes.
ESC_INLINE Vec first_lanes(Vec x, int64_t count) {
    if (count >= kLanes) return x;
    ESC_EACH(l, kLanes) x[l] = l < count ? x[l] : 0;
    return x;
}

// sums (channels) += each channel's row added up.
void add_rows(float* sums, const float* rows, int64_t channels, const Span& s) {
    for (int64_t i = 0; i < channels; i++) {
        Vec sum{};
        for (int64_t c = 0; c < s.count(); c += kLanes)
            sum += first_lanes(load(rows + i * kPitch + s.at() + c), s.count() - c);
        sums[i] += total(sum);
    }
}

}  // namespace
