// Window attention as in attention.h, of bfloat16 maps and with factors of products rounded.
//
// A vector holds the scores of one query with kLanes keys, which lie in one row of the window. What is subtracted
// from a query's scores, and from the gradients of its weights, goes into the products as three more channels:
// three bfloat16 numbers hold a float32, and those of the other factor are ones.
#pragma once

#include "attention.h"
#include "half.h"

namespace {

constexpr int64_t kBlock = 32;       // queries and keys whose scores are computed at once
constexpr int64_t kAtOnce = 256;     // keys whose weights are kept
constexpr int64_t kSquare = 64;      // queries and keys whose gradients are kept
constexpr Half kOne = 0x3f80;

// 2^x, relative error 8e-5: what is made of it is rounded to 8 bits.
ESC_INLINE Vec rough_exp2(Vec x) {
    const Vec r = _mm512_maskz_reduce_ps(-1, x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    Vec p = r * 0.0780245f + 0.22606722f;
    p = p * r + 0.6958335f;
    p = p * r + 0.99992522f;
    return _mm512_maskz_scalef_ps(-1, p, x);
}

struct HalfWork {
    const Attention& a;
    const int64_t side, n, span, width, wide, depth;
    Memory memory;
    float *table, *grad_table[2];
    int32_t *of_query, *of_keys;  // where in the table: query 0 with these keys, and this query's way from there
    Half *rows, *q, *g, *q_turned, *g_turned;
    Pair *k, *v, *keys, *values;  // (channels, keys), each kBlock keys by themselves; (keys, channels)
    Pair *p_pairs, *ds_pairs, *pairs;
    Half *p, *ds;
    float *scores, *grads, *sums, *grad_k, *grad_v;

    HalfWork(const Attention& a, bool backward, float* base)
        : a(a), side(a.side), n(side * side), span(2 * side - 1), width(a.width), wide(up(width, kSide)),
          depth(up(width + 3, kStep)), memory{base} {
        table = memory.take(span * span), of_query = memory.take<int32_t>(n);
        of_keys = memory.take<int32_t>(n / kLanes);
        rows = memory.take<Half>(n * depth), k = memory.take<Pair>(n * depth / 2);
        q = memory.take<Half>(kSquare * depth), sums = memory.take(kSquare * wide);
        scores = memory.take(kBlock * kBlock);
        if (!backward) {
            values = memory.take<Pair>(n / 2 * wide), p = memory.take<Half>(kBlock * kAtOnce);
            return;
        }
        v = memory.take<Pair>(n * depth / 2), keys = memory.take<Pair>(n / 2 * wide);
        g = memory.take<Half>(kSquare * depth), pairs = memory.take<Pair>(kSquare / 2 * wide);
        q_turned = memory.take<Half>(wide * kSquare), g_turned = memory.take<Half>(wide * kSquare);
        grads = memory.take(kBlock * kBlock);
        p_pairs = memory.take<Pair>(kSquare / 2 * kSquare), ds_pairs = memory.take<Pair>(kSquare / 2 * kSquare);
        ds = memory.take<Half>(kSquare * kSquare);
        grad_k = memory.take(n * wide), grad_v = memory.take(n * wide);
        for (float*& one : grad_table) one = memory.take(span * span + kLanes);
    }

    void number() const {
        for (int64_t i = 0; i < n; i++) of_query[i] = -int32_t(i / side * span + i % side);
        for (int64_t i = 0; i < n / kLanes; i++)
            of_keys[i] = int32_t((side - 1) * (span + 1)) - of_query[i * kLanes];
    }

    void scale_table(const float* from) const {
        for (int64_t i = 0; i < span * span; i++) table[i] = from[i] * kLog2e;
    }

    static Half* at(const View& x, const Attention& a, int64_t window, int64_t head) {
        const int64_t across = window % a.across, down = window / a.across % a.down;
        return static_cast<Half*>(x.data) + window / (a.across * a.down) * x.picture + head * x.head +
               down * a.side * x.row + across * a.side * x.column;
    }

    int64_t place(const View& x, int64_t pixel) const { return pixel / side * x.row + pixel % side * x.column; }

    // Calls work(pixel, place) for pixels of a window; `first` and `count` are multiples of kSide.
    template <class Each>
    ESC_INLINE void each_pixel(const View& x, int64_t first, int64_t count, const Each& work) const {
        for (int64_t i = first; i < first + count; i += kSide) {
            const int64_t begin = place(x, i);
            for (int64_t l = 0; l < kSide; l++) work(i + l, begin + l * x.column);
        }
    }

    // Pixels of a window to rows (count, depth), times `scale`, followed by three of `more`.
    void read(Half* to, const View& x, const Half* from, int64_t first, int64_t count, float scale,
              Half more) const {
        for (int64_t c = 0; c < depth; c += kLanes) {
            const int64_t there = most(least(width - c, kLanes), 0), ones = most(least(width + 3 - c, kLanes), 0);
            const __mmask16 filled = first_lanes(there), after = first_lanes(ones) & ~filled;
            each_pixel(x, first, count, [&](int64_t i, int64_t place) {
                __m256i in = _mm256_maskz_loadu_epi16(filled, from + place + c);
                if (scale != 1) in = (__m256i)_mm512_cvtneps_pbh(widen(in) * scale);
                in = _mm256_mask_set1_epi16(in, after, short(more));
                _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + (i - first) * depth + c), in);
            });
        }
    }

    // Rows of all pixels to (channels, pixels) of pairs, each kBlock pixels by themselves.
    void turn_rows(Pair* to) const {
        const Pair* from = reinterpret_cast<const Pair*>(rows);
        for (int64_t i = 0; i < n; i += kBlock)
            turn_pairs(to + i * depth / 2, kBlock, from + i * depth / 2, depth / 2, kBlock, depth / 2);
    }

    // Rows to pairs of rows (count / 2, wide).
    void pair_rows(Pair* to, const Half* from, int64_t count) const {
        for (int64_t i = 0; i < count; i += 2, from += 2 * depth, to += wide)
            for (int64_t c = 0; c < wide; c += kLanes)
                _mm512_storeu_si512(to + c, paired(from + c, from + depth + c));
    }

    // The three channels that subtract x.
    void subtract(Half* row, float x) const {
        x = -x;
        for (int i = 0; i < 3; i++) {
            uint32_t bits;
            memcpy(&bits, &x, sizeof bits);
            row[width + i] = Half(bits >> 16);
            bits &= 0xffff0000;
            float part;
            memcpy(&part, &bits, sizeof part);
            x -= part;
        }
    }

    // scores (kBlock, kBlock) of rows with the keys, or values, of one block.
    void score(float* to, const Half* of, const Pair* with) const {
        const Places places = {kBlock, kSide * kBlock, depth, kSide * depth, 0, kBlock};
        for (int64_t i = 0; i < kBlock; i += kSide)
            product<2, false>(to + i, of, with + i, places, 1, depth);
    }
};

// The greatest length of the keys, by their rows.
float longest(const HalfWork& w) {
    Vec most{};
    for (int64_t i = 0; i < w.n; i++) {
        Vec square{};
        for (int64_t c = 0; c < w.width; c += kLanes) {
            const __mmask16 there = first_lanes(least(w.width - c, kLanes));
            const Vec x = widen(_mm256_maskz_loadu_epi16(there, w.rows + i * w.depth + c));
            square += x * x;
        }
        most = larger(most, splat(total(square)));
    }
    return __builtin_sqrtf(most[0]);
}

// Subtract from the scores of kBlock queries what makes the greatest of each 0 or, where that is known to be far
// from vanishing, a bound of it.
void subtract_top(const HalfWork& w, int64_t first, float length, float low, float high, float* top) {
    bool near = true;
    for (int64_t i = 0; i < kBlock; i++) {
        float square = 0;
        for (int64_t c = 0; c < w.width; c += kLanes) {
            const __mmask16 there = first_lanes(least(w.width - c, kLanes));
            const Vec x = widen(_mm256_maskz_loadu_epi16(there, w.q + i * w.depth + c));
            square += total(x * x);
        }
        const float bound = __builtin_sqrtf(square) * length;
        near = near && 2 * bound + high - low < 100;
        top[i] = bound + high;
    }
    if (!near) {
        Vec highest[kBlock];
        for (Vec& x : highest) x = splat(-1e30f);
        for (int64_t i = 0; i < kBlock; i++) w.subtract(w.q + i * w.depth, 0);
        for (int64_t key = 0; key < w.n; key += kBlock) {
            w.score(w.scores, w.q, w.k + key * w.depth / 2);
            for (int64_t i = 0; i < kBlock; i++)
                for (int64_t l = 0; l < kBlock; l += kLanes) {
                    const float* bias = w.table + w.of_keys[(key + l) / kLanes] + w.of_query[first + i];
                    highest[i] = larger(highest[i], load(w.scores + i * kBlock + l) + load(bias));
                }
        }
        for (int64_t i = 0; i < kBlock; i++) {
            top[i] = highest[i][0];
            for (int64_t l = 1; l < kLanes; l++)
                if (!(highest[i][l] <= top[i])) top[i] = highest[i][l];
        }
    }
    for (int64_t i = 0; kHasTiles && i < kBlock; i++) w.subtract(w.q + i * w.depth, top[i]);
}

// exp2 of the scores of kBlock queries with one block of keys, less `top`, to p, kAtOnce apart, and to `total`.
void weigh(const HalfWork& w, int64_t first, int64_t key, Half* p, Vec* total) {
    const float *low = w.table + w.of_keys[key / kLanes], *high = w.table + w.of_keys[key / kLanes + 1];
    w.score(w.scores, w.q, w.k + key * w.depth / 2);
    for (int64_t i = 0; i < kBlock; i++) {
        const int32_t query = w.of_query[first + i];
        const Vec x = rough_exp2(load(w.scores + i * kBlock) + load(low + query));
        const Vec y = rough_exp2(load(w.scores + i * kBlock + kLanes) + load(high + query));
        total[i] += x + y;
        narrow(p + i * kAtOnce, x, y);
    }
}

// The same without tiles: scores stay in registers, and need no channels to subtract with.
void weigh_in_registers(const HalfWork& w, int64_t first, int64_t key, const float* top, Half* p, Vec* total) {
    constexpr int kRows = 8;
    const float *low = w.table + w.of_keys[key / kLanes], *high = w.table + w.of_keys[key / kLanes + 1];
    for (int64_t i = 0; i < kBlock; i += kRows) {
        Vec x[kRows], y[kRows];
        ESC_EACH(r, kRows) {
            const int32_t query = w.of_query[first + i + r];
            x[r] = load(low + query) - top[i + r], y[r] = load(high + query) - top[i + r];
        }
        const Half* q = w.q + i * w.depth;
        const Pair* k = w.k + key * w.depth / 2;
        for (int64_t c = 0; c < w.width; c += 2, k += kBlock) {
            const __m512bh one = (__m512bh)_mm512_loadu_si512(k), two = (__m512bh)_mm512_loadu_si512(k + kLanes);
            ESC_EACH(r, kRows) {
                int pair;
                memcpy(&pair, q + r * w.depth + c, sizeof pair);
                const __m512bh with = (__m512bh)_mm512_set1_epi32(pair);
                x[r] = _mm512_dpbf16_ps(x[r], with, one), y[r] = _mm512_dpbf16_ps(y[r], with, two);
            }
        }
        ESC_EACH(r, kRows) {
            x[r] = rough_exp2(x[r]), y[r] = rough_exp2(y[r]);
            total[i + r] += x[r] + y[r];
            narrow(p + (i + r) * kAtOnce, x[r], y[r]);
        }
    }
}

// Weights of kBlock queries times values, added to sums (kBlock, wide); the weights' sums to `total`.
void half_forward_queries(const HalfWork& w, int64_t first, const float* top, Vec (&total)[kBlock]) {
    memset(w.sums, 0, sizeof(float) * kBlock * w.wide);
    for (Vec& x : total) x = Vec{};
    for (int64_t begin = 0; begin < w.n; begin += kAtOnce) {
        for (int64_t key = begin; key < begin + kAtOnce; key += kBlock) {
            if (kHasTiles)
                weigh(w, first, key, w.p + key - begin, total);
            else
                weigh_in_registers(w, first, key, top, w.p + key - begin, total);
        }
        const Places places = {w.wide, kSide * w.wide, kAtOnce, kSide * kAtOnce, 0, w.wide};
        for (int64_t c = 0; c < w.wide; c += kSide)
            product<2, true>(w.sums + c, w.p, w.values + begin / 2 * w.wide + c, places, 1, kAtOnce);
    }
}

void half_attention(const void* problem, int64_t first, int64_t last, float* scratch, float*) {
    const auto& a = *static_cast<const Attention*>(problem);
    const Tiling tiling;
    const HalfWork w(a, false, scratch);
    const float scale = kLog2e / __builtin_sqrtf(float(a.width));
    const int64_t windows = a.pictures * a.down * a.across;
    float low = 0, high = 0;
    w.number();
    for (int64_t item = first; item < last; item++) {
        const int64_t window = item % windows, head = item / windows;
        if (item == first || window == 0) {
            w.scale_table(a.table + head * w.span * w.span);
            low = high = w.table[0];
            for (int64_t i = 1; i < w.span * w.span; i++) {
                low = w.table[i] < low ? w.table[i] : low;
                high = w.table[i] > high ? w.table[i] : high;
            }
        }
        w.read(w.rows, a.v, w.at(a.v, a, window, head), 0, w.n, 1, 0);
        w.pair_rows(w.values, w.rows, w.n);
        w.read(w.rows, a.k, w.at(a.k, a, window, head), 0, w.n, 1, kOne);
        w.turn_rows(w.k);
        const float length = longest(w);
        Half* const out = w.at(a.out, a, window, head);
        for (int64_t query = 0; query < w.n; query += kBlock) {
            float top[kBlock];
            Vec total_of[kBlock];
            w.read(w.q, a.q, w.at(a.q, a, window, head), query, kBlock, scale, 0);
            subtract_top(w, query, length, low, high, top);
            half_forward_queries(w, query, top, total_of);
            w.each_pixel(a.out, query, kBlock, [&](int64_t pixel, int64_t place) {
                const int64_t i = pixel - query;
                const float all = total(total_of[i]), share = 1 / all;
                float* sum = w.sums + i * w.wide;
                for (int64_t c = 0; c < w.wide; c += kLanes) store(sum + c, load(sum + c) * share);
                copy(out + place, 0, sum, 0, 1, w.width);
                if (a.lse) a.lse[(window * a.heads + head) * w.n + pixel] = top[i] + log2(splat(all))[0];
            });
        }
    }
}

int64_t half_attention_scratch(const void* problem) {
    return HalfWork(*static_cast<const Attention*>(problem), false, nullptr).memory.used;
}

}  // namespace
