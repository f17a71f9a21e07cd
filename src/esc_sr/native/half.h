// Products of bfloat16 numbers, added up in float32, by AMX's tiles or, where there are none, by vectors.
//
// Of C = A B, A lies in rows; B in pairs: two rows of it are one of 32-bit numbers, the upper row in the low
// halves. Depths are filled up by zeros to whole steps of kStep.
#pragma once

#include "product.h"

namespace {

using Pair = uint32_t;  // two Halves

constexpr int64_t kSide = 16, kStep = 32;

// Both rounded, `low` in the low halves.
ESC_INLINE __m512i paired(Vec low, Vec high) {
    const __m512i alternating = _mm512_set_epi32(0x1f000f, 0x1e000e, 0x1d000d, 0x1c000c, 0x1b000b, 0x1a000a,
                                                 0x190009, 0x180008, 0x170007, 0x160006, 0x150005, 0x140004,
                                                 0x130003, 0x120002, 0x110001, 0x100000);
    return _mm512_maskz_permutexvar_epi16(-1, alternating, (__m512i)_mm512_cvtne2ps_pbh(high, low));
}
ESC_INLINE __m512i paired(const Half* low, const Half* high) {
    const __m512i x = _mm512_maskz_cvtepu16_epi32(-1, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(low)));
    const __m512i y = _mm512_maskz_cvtepu16_epi32(-1, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(high)));
    return _mm512_or_si512(x, _mm512_maskz_slli_epi32(-1, y, 16));
}

// Where the parts of a product lie: how far apart rows, blocks of kSide rows of A and C, and the stretches of
// A's depth are; in floats, halves and, for B, pairs. B's stretches follow each other.
struct Places {
    int64_t c_row, c_block, a_row, a_block, a_stretch, b_row;
};

// C (kRows, kLanes) = or += A B by vectors; A's rows lie p.a_row apart.
template <int kRows, bool kAdds>
ESC_INLINE void product_of_rows(float* c, const Half* a, const Pair* b, const Places& p, int64_t stretches,
                                int64_t depth) {
    Vec acc[kRows];
    ESC_EACH(r, kRows) acc[r] = kAdds ? load(c + r * p.c_row) : Vec{};
    for (int64_t i = 0; i < stretches; i++, a += p.a_stretch)
        for (int64_t k = 0; k < depth; k += 2, b += p.b_row) {
            const __m512bh in = (__m512bh)_mm512_loadu_si512(b);
            ESC_EACH(r, kRows) {
                int pair;
                memcpy(&pair, a + r * p.a_row + k, sizeof pair);
                acc[r] = _mm512_dpbf16_ps(acc[r], (__m512bh)_mm512_set1_epi32(pair), in);
            }
        }
    ESC_EACH(r, kRows) store(c + r * p.c_row, acc[r]);
}

#if defined(__AMX_BF16__)

constexpr bool kHasTiles = true;

// While it lives, this thread's tiles have kSide rows of 64 bytes; what they had before comes back.
struct Tiling {
    alignas(64) uint8_t before[64];

    Tiling() {
        alignas(64) uint8_t all[64] = {1};
        for (int t = 0; t < 8; t++) all[16 + 2 * t] = 64, all[48 + t] = kSide;
        __asm__ volatile("sttilecfg %0" : "=m"(before));
        __asm__ volatile("ldtilecfg %0" ::"m"(all));
    }
    ~Tiling() {
        if (before[0])
            __asm__ volatile("ldtilecfg %0" ::"m"(before));
        else
            __asm__ volatile("tilerelease" ::);
    }
    Tiling(const Tiling&) = delete;
};

// Give `work`, which has to name tiles by constants, 0 to kCount - 1.
#define ESC_TILES(count, work)                                        \
    do {                                                              \
        work(0);                                                      \
        if constexpr (count > 1) { work(1); }                         \
        if constexpr (count > 2) { work(2); }                         \
        if constexpr (count > 3) { work(3); }                         \
        if constexpr (count > 4) { work(4); }                         \
    } while (0)

// C (kBlocks blocks of kSide, kSide) = or += A B.
template <int kBlocks, bool kAdds>
ESC_INLINE void product(float* c, const Half* a, const Pair* b, const Places& p, int64_t stretches,
                        int64_t depth) {
    __asm__ volatile("" ::: "memory");  // loads of tiles do not say that they read memory
    const long c_row = 4 * p.c_row, a_row = 2 * p.a_row, b_row = 4 * p.b_row;
#define ESC_BEGIN(t)                                     \
    if constexpr (kAdds)                                 \
        _tile_loadd(t, c + t * p.c_block, c_row);        \
    else                                                 \
        _tile_zero(t)
#define ESC_MULTIPLY(t)                              \
    _tile_loadd(6, from + t * p.a_block, a_row);     \
    _tile_dpbf16ps(t, 6, 7)
#define ESC_END(t) _tile_stored(t, c + t * p.c_block, c_row)
    ESC_TILES(kBlocks, ESC_BEGIN);
    for (int64_t i = 0; i < stretches; i++, a += p.a_stretch) {
        const Half* from = a;
        for (int64_t k = 0; k < depth; k += kStep, from += kStep, b += kStep / 2 * p.b_row) {
            _tile_loadd(7, b, b_row);
            ESC_TILES(kBlocks, ESC_MULTIPLY);
        }
    }
    ESC_TILES(kBlocks, ESC_END);
#undef ESC_BEGIN
#undef ESC_MULTIPLY
#undef ESC_END
}

#else

constexpr bool kHasTiles = false;

struct Tiling {
    Tiling() {}
};

// C (kBlocks blocks of kSide, kSide) = or += A B.
template <int kBlocks, bool kAdds>
ESC_INLINE void product(float* c, const Half* a, const Pair* b, const Places& p, int64_t stretches,
                        int64_t depth) {
    for (int t = 0; t < kBlocks; t++)
        product_of_rows<kSide, kAdds>(c + t * p.c_block, a + t * p.a_block, b, p, stretches, depth);
}

#endif

// C (rows, columns) += A B, columns in sixteens; b_row: of B's pairs.
void multiply_halves(float* c, int64_t c_row, const Half* a, int64_t a_row, const Pair* b, int64_t b_row,
                     int64_t rows, int64_t columns, int64_t depth) {
    const Places p = {c_row, kSide * c_row, a_row, kSide * a_row, 0, b_row};
    for (int64_t j = 0; j < columns; j += kSide) {
        int64_t r = 0;
        const auto each = [&](auto work, int64_t height) {
            for (; r + height <= rows; r += height) work(c + r * c_row + j, a + r * a_row, b + j);
        };
        each([&](float* c, const Half* a, const Pair* b) { product<4, true>(c, a, b, p, 1, depth); }, 64);
        each([&](float* c, const Half* a, const Pair* b) { product<1, true>(c, a, b, p, 1, depth); }, 16);
        each([&](float* c, const Half* a, const Pair* b) { product_of_rows<4, true>(c, a, b, p, 1, depth); }, 4);
        each([&](float* c, const Half* a, const Pair* b) { product_of_rows<1, true>(c, a, b, p, 1, depth); }, 1);
    }
}

// (rows, columns) in rows of halves; columns in sixteens, filled up to whole steps.
void pack_halves(Half* to, const float* from, int64_t from_row, int64_t rows, int64_t columns) {
    const int64_t whole = up(columns, kStep);
    for (int64_t r = 0; r < rows; r++, from += from_row, to += whole)
        for (int64_t c = 0; c < whole; c += kStep)
            narrow(to + c, load(from + c), c + kLanes < columns ? load(from + c + kLanes) : Vec{});
}

// (rows, columns) in pairs, (rows in whole steps / 2, columns); columns in sixteens.
void pack_pairs(Pair* to, const float* from, int64_t from_row, int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < up(rows, kStep); r += 2, from += 2 * from_row, to += columns)
        for (int64_t c = 0; c < columns; c += kLanes) {
            const Vec low = r < rows ? load(from + c) : Vec{};
            const Vec high = r + 1 < rows ? load(from + from_row + c) : Vec{};
            _mm512_storeu_si512(to + c, paired(low, high));
        }
}

// (rows, columns) of pairs to (columns, rows); both in sixteens.
void turn_pairs(Pair* to, int64_t to_row, const Pair* from, int64_t from_row, int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; r += kSide)
        for (int64_t c = 0; c < columns; c += kSide) {
            __m512i square[kSide];
            ESC_EACH(i, kSide) square[i] = _mm512_loadu_si512(from + (r + i) * from_row + c);
            turn_square(square);
            ESC_EACH(i, kSide) _mm512_storeu_si512(to + (c + i) * to_row + r, square[i]);
        }
}

// `Exact` with factors rounded.
struct Rounded {
    static constexpr bool kRounds = true;
    using Scope = Tiling;

    struct Factor {
        const float* values;
        int64_t depth, pitch;
        Pair* pairs;
    };

    Half *rows, *turned;
    Pair *pairs, *gathered;

    // Room for A and B of so many rows and channels.
    Rounded(Memory& m, int64_t most_rows, int64_t channels) {
        const int64_t depth = up(most_rows, kStep), wide = up(channels, kStep);
        rows = m.take<Half>(most_rows * wide), turned = m.take<Half>(wide * depth);
        pairs = m.take<Pair>(depth / 2 * wide), gathered = m.take<Pair>(depth / 2 * wide);
    }

    static Factor factor(Memory& m, const float* values, int64_t depth, int64_t columns) {
        return {values, depth, pitch(columns), m.take<Pair>(up(depth, kStep) / 2 * pitch(columns))};
    }
    static void prepare(Factor& f) { pack_pairs(f.pairs, f.values, f.pitch, f.depth, f.pitch); }

    void apply(float* c, int64_t c_pitch, Matrix start, Matrix a, const Factor& b, int64_t count, int64_t,
               int64_t depth) const {
        for (int64_t r = 0; r < count && start.first != c; r++)
            memcpy(c + r * c_pitch, start.at(r, 0), sizeof(float) * b.pitch);
        pack_halves(rows, a.first, a.pitch, count, pitch(depth));
        multiply_halves(c, c_pitch, rows, up(depth, kStep), b.pairs, b.pitch, count, b.pitch, up(depth, kStep));
    }

    void gather(float* c, Matrix a, Matrix b, int64_t count, int64_t columns, int64_t depth) const {
        const int64_t whole = up(depth, kStep);
        pack_pairs(pairs, a.first, a.pitch, depth, pitch(count));
        turn_pairs(reinterpret_cast<Pair*>(turned), whole / 2, pairs, pitch(count), whole / 2, pitch(count));
        pack_pairs(gathered, b.first, b.pitch, depth, pitch(columns));
        multiply_halves(c, pitch(columns), turned, whole, gathered, pitch(columns), count, pitch(columns), whole);
    }
};

}  // namespace
