// Vectors of kLanes floats in the notation of GCC and Clang. Included once by each level, after its settings;
// everything has internal linkage, so that no level's code can stand in for another's.
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define ESC_INLINE __attribute__((always_inline)) inline
#if defined(__clang__)
#define ESC_UNROLL _Pragma("unroll")
#else
#define ESC_UNROLL _Pragma("GCC unroll 16")
#endif
#define ESC_EACH(i, count) ESC_UNROLL for (int i = 0; i < count; i++)

namespace {

typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef float LooseVec __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));

ESC_INLINE Vec load(const float* p) { return *reinterpret_cast<const LooseVec*>(p); }
ESC_INLINE void store(float* p, Vec x) { *reinterpret_cast<LooseVec*>(p) = x; }
ESC_INLINE Vec splat(float x) { return x - Vec{}; }

#if defined(__AVX512F__)

ESC_INLINE Vec larger(Vec a, Vec b) { return _mm512_maskz_max_ps(-1, a, b); }

// 1 / x, relative error 2e-7, for x that are neither huge nor tiny.
ESC_INLINE Vec inverse(Vec x) {
    const Vec y = _mm512_maskz_rcp14_ps(-1, x);
    return y + y * (1.f - x * y);
}

// 2^x = 2^floor(x) 2^r: a polynomial for r in [0, 1), relative error 1.5e-7.
ESC_INLINE Vec exp2(Vec x) {
    const Vec r = _mm512_maskz_reduce_ps(-1, x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    Vec p = r * 0.00187757669f + 0.00898933969f;
    p = p * r + 0.0558263175f;
    p = p * r + 0.240153611f;
    p = p * r + 0.693153083f;
    p = p * r + 0.99999994f;
    return _mm512_maskz_scalef_ps(-1, p, x);
}

#else

ESC_INLINE Vec inverse(Vec x) { return 1.f / x; }

// The larger one; b where one of them is not a number.
#if defined(__AVX2__)
ESC_INLINE Vec larger(Vec a, Vec b) { return _mm256_max_ps(a, b); }
#else
ESC_INLINE Vec larger(Vec a, Vec b) { return a > b ? a : b; }
#endif

// 2^x = 2^n 2^r for x < 127, n the nearest integer: a polynomial for |r| <= 1/2, relative error 2e-7.
// Adding 1.5 * 2^23 rounds to integers and leaves n in the lowest bits; below 2^-126 it stays at that.
ESC_INLINE Vec exp2(Vec x) {
    const Vec magic = splat(12582912.f);
    x = larger(splat(-126.f), x);
    const Vec t = x + magic;
    const Vec r = x - (t - magic);
    Vec p = r * 0.00132764725f + 0.00967554096f;
    p = p * r + 0.0555071309f;
    p = p * r + 0.240221202f;
    p = p * r + 0.693146944f;
    p = p * r + 1.00000012f;
    Ints n, bits;
    memcpy(&n, &t, sizeof n);
    memcpy(&bits, &p, sizeof bits);
    bits += n << 23;
    memcpy(&p, &bits, sizeof p);
    return p;
}

#endif

// log2(x) for normal x > 0: the exponent and a line, then Newton's steps with exp2.
ESC_INLINE Vec log2(Vec x) {
    Ints bits;
    memcpy(&bits, &x, sizeof bits);
    Vec y = __builtin_convertvector(bits, Vec) * (1.f / 8388608.f) - 126.957f;
    for (int i = 0; i < 3; i++) y += (x * exp2(-y) - 1.f) * 1.44269504f;
    return y;
}

// Every lane moves up by one; `first` enters at the lowest.
ESC_INLINE Vec move_up(Vec x, float first) {
#if defined(__AVX512F__)
    return (Vec)_mm512_maskz_alignr_epi32(-1, (__m512i)x, (__m512i)splat(first), 15);
#elif defined(__AVX2__)
    return __builtin_shufflevector(splat(first), x, 7, 8, 9, 10, 11, 12, 13, 14);
#else
    return __builtin_shufflevector(splat(first), x, 3, 4, 5, 6);
#endif
}

// A block of numbers times scale, rows to columns; both have rows that lie a pitch apart.
ESC_INLINE void turn_block(float* to, int64_t to_pitch, const float* from, int64_t from_pitch, float scale) {
#if defined(__AVX2__)
    typedef float Eight __attribute__((vector_size(32)));
    typedef float LooseEight __attribute__((vector_size(32), aligned(4), may_alias));
    Eight x[8], y[8];
    ESC_EACH(i, 8) x[i] = *reinterpret_cast<const LooseEight*>(from + i * from_pitch) * scale;
    ESC_EACH(i, 4) {
        y[2 * i] = __builtin_shufflevector(x[2 * i], x[2 * i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        y[2 * i + 1] = __builtin_shufflevector(x[2 * i], x[2 * i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    ESC_EACH(i, 2) ESC_EACH(j, 2) {
        x[4 * i + 2 * j] = __builtin_shufflevector(y[4 * i + j], y[4 * i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
        x[4 * i + 2 * j + 1] = __builtin_shufflevector(y[4 * i + j], y[4 * i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
    ESC_EACH(i, 4) {
        y[i] = __builtin_shufflevector(x[i], x[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        y[i + 4] = __builtin_shufflevector(x[i], x[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
    ESC_EACH(i, 8) *reinterpret_cast<LooseEight*>(to + i * to_pitch) = y[i];
#else
    typedef float Four __attribute__((vector_size(16)));
    typedef float LooseFour __attribute__((vector_size(16), aligned(4), may_alias));
    Four x[4], y[4];
    ESC_EACH(i, 4) x[i] = *reinterpret_cast<const LooseFour*>(from + i * from_pitch) * scale;
    ESC_EACH(i, 2) {
        y[2 * i] = __builtin_shufflevector(x[2 * i], x[2 * i + 1], 0, 4, 1, 5);
        y[2 * i + 1] = __builtin_shufflevector(x[2 * i], x[2 * i + 1], 2, 6, 3, 7);
    }
    ESC_EACH(i, 2) {
        x[2 * i] = __builtin_shufflevector(y[i], y[i + 2], 0, 1, 4, 5);
        x[2 * i + 1] = __builtin_shufflevector(y[i], y[i + 2], 2, 3, 6, 7);
    }
    ESC_EACH(i, 4) *reinterpret_cast<LooseFour*>(to + i * to_pitch) = x[i];
#endif
}

// to = scale from, both (rows, columns) with strides of their own. Where neighbours in a row become neighbours
// in a column, blocks are turned in registers.
void copy(float* to, int64_t to_row, int64_t to_column, const float* from, int64_t from_row,
          int64_t from_column, int64_t rows, int64_t columns, float scale) {
    typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
#if defined(__AVX2__)
    constexpr int64_t kBlock = 8;
#else
    constexpr int64_t kBlock = 4;
#endif
    if (from_row == 1 && from_column != 1)
        return copy(to, to_column, to_row, from, from_column, from_row, columns, rows, scale);
    const bool turns = to_row == 1 && from_column == 1;
    const int64_t whole_rows = turns ? rows / kBlock * kBlock : 0;
    const int64_t whole_columns = turns ? columns / kBlock * kBlock : 0;
    for (int64_t r = 0; r < whole_rows; r += kBlock)
        for (int64_t c = 0; c < whole_columns; c += kBlock)
            turn_block(to + c * to_column + r, to_column, from + r * from_row + c, from_row, scale);
    if (to_column == 1 && from_column == 1) {
        for (int64_t r = 0; r < rows; r++, to += to_row, from += from_row) {
            int64_t c = 0;
            for (; c + kLanes <= columns; c += kLanes) store(to + c, load(from + c) * scale);
            for (; c + 4 <= columns; c += 4)
                *reinterpret_cast<Four*>(to + c) = *reinterpret_cast<const Four*>(from + c) * scale;
            for (; c < columns; c++) to[c] = from[c] * scale;
        }
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = r < whole_rows ? whole_columns : 0; c < columns; c++)
            to[r * to_row + c * to_column] = from[r * from_row + c * from_column] * scale;
}

#if defined(__AVX512BF16__)

using Half = uint16_t;  // a bfloat16

ESC_INLINE Vec widen(__m256i x) { return (Vec)_mm512_maskz_slli_epi32(-1, _mm512_maskz_cvtepu16_epi32(-1, x), 16); }
ESC_INLINE Vec widen(const Half* p) {
    return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
ESC_INLINE void narrow(Half* p, Vec x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(x));
}
ESC_INLINE void narrow(Half* p, Vec x, Vec next) {
    _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh(next, x));
}

// 16 x 16 numbers of 32 bits, rows to columns.
ESC_INLINE void turn_square(__m512i (&x)[16]) {
    __m512i y[16];
    ESC_EACH(i, 8) {
        y[2 * i] = _mm512_maskz_unpacklo_epi32(-1, x[2 * i], x[2 * i + 1]);
        y[2 * i + 1] = _mm512_maskz_unpackhi_epi32(-1, x[2 * i], x[2 * i + 1]);
    }
    ESC_EACH(i, 4) {
        x[4 * i] = _mm512_maskz_unpacklo_epi64(-1, y[4 * i], y[4 * i + 2]);
        x[4 * i + 1] = _mm512_maskz_unpackhi_epi64(-1, y[4 * i], y[4 * i + 2]);
        x[4 * i + 2] = _mm512_maskz_unpacklo_epi64(-1, y[4 * i + 1], y[4 * i + 3]);
        x[4 * i + 3] = _mm512_maskz_unpackhi_epi64(-1, y[4 * i + 1], y[4 * i + 3]);
    }
    ESC_EACH(i, 4) {
        const __m512i a = _mm512_maskz_shuffle_i32x4(-1, x[i], x[4 + i], 0x88);
        const __m512i b = _mm512_maskz_shuffle_i32x4(-1, x[i], x[4 + i], 0xdd);
        const __m512i c = _mm512_maskz_shuffle_i32x4(-1, x[8 + i], x[12 + i], 0x88);
        const __m512i d = _mm512_maskz_shuffle_i32x4(-1, x[8 + i], x[12 + i], 0xdd);
        y[i] = _mm512_maskz_shuffle_i32x4(-1, a, c, 0x88), y[4 + i] = _mm512_maskz_shuffle_i32x4(-1, b, d, 0x88);
        y[8 + i] = _mm512_maskz_shuffle_i32x4(-1, a, c, 0xdd), y[12 + i] = _mm512_maskz_shuffle_i32x4(-1, b, d, 0xdd);
    }
    ESC_EACH(i, 16) x[i] = y[i];
}

ESC_INLINE void turn_square(Vec (&x)[16]) {
    __m512i bits[16];
    ESC_EACH(i, 16) bits[i] = (__m512i)x[i];
    turn_square(bits);
    ESC_EACH(i, 16) x[i] = (Vec)bits[i];
}

ESC_INLINE __mmask16 first_lanes(int64_t count) { return __mmask16((1u << count) - 1); }

// Rows of numbers that lie side by side, widened or rounded.
void copy(float* to, int64_t to_row, const Half* from, int64_t from_row, int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; r++, to += to_row, from += from_row) {
        int64_t c = 0;
        for (; c + kLanes <= columns; c += kLanes) store(to + c, widen(from + c));
        if (c == columns) continue;
        const __mmask16 rest = first_lanes(columns - c);
        _mm512_mask_storeu_ps(to + c, rest, widen(_mm256_maskz_loadu_epi16(rest, from + c)));
    }
}

void copy(Half* to, int64_t to_row, const float* from, int64_t from_row, int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; r++, to += to_row, from += from_row) {
        int64_t c = 0;
        for (; c + kLanes <= columns; c += kLanes) narrow(to + c, load(from + c));
        if (c == columns) continue;
        const __mmask16 rest = first_lanes(columns - c);
        const Vec x = _mm512_maskz_loadu_ps(rest, from + c);
        _mm256_mask_storeu_epi16(to + c, rest, (__m256i)_mm512_cvtneps_pbh(x));
    }
}

#endif

}  // namespace
