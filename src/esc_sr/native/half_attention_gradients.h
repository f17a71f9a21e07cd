// Gradients of half_attention.h.
#pragma once

#include "half_attention.h"

namespace {

// The weights p and the gradients ds of the scores of 16 queries with kBlock keys, from scores and the gradients
// of weights: ds in rows, p and ds in pairs of queries, where keys are in the order of `key_in_pairs`, and ds added
// to the gradients of the biases.
ESC_INLINE void half_backward_square(const HalfWork& w, const float* scores, const float* grads, int64_t query,
                                     int64_t key, Half* ds, Pair* p_pairs, Pair* ds_pairs) {
    const float* bias[2];
    float* to[2];
    Vec sum[2];
    ESC_EACH(h, 2) {
        const int64_t from = w.of_keys[key / kLanes + h] + w.of_query[query];
        bias[h] = w.table + from, to[h] = w.grad_table[h] + from;
        sum[h] = load(to[h] + 1);
    }
    for (int64_t i = 0; i < kSide; i += 2) {
        __m512i weights[2], changes[2];
        ESC_EACH(e, 2) {
            Vec p[2], d[2];
            ESC_EACH(h, 2) {
                const int64_t x = (i + e) * kBlock + h * kLanes;
                p[h] = rough_exp2(load(scores + x) + load(bias[h] - i - e));
                d[h] = p[h] * load(grads + x);
                sum[h] = move_up(sum[h], to[h][-i - e]) + d[h];
                store(to[h] - i - e, sum[h]);
            }
            weights[e] = (__m512i)_mm512_cvtne2ps_pbh(p[1], p[0]);
            changes[e] = (__m512i)_mm512_cvtne2ps_pbh(d[1], d[0]);
            _mm512_storeu_si512(ds + (i + e) * kSquare, changes[e]);
        }
        const int64_t x = i / 2 * kSquare;
        _mm512_storeu_si512(p_pairs + x, _mm512_unpacklo_epi16(weights[0], weights[1]));
        _mm512_storeu_si512(p_pairs + x + kLanes, _mm512_unpackhi_epi16(weights[0], weights[1]));
        _mm512_storeu_si512(ds_pairs + x, _mm512_unpacklo_epi16(changes[0], changes[1]));
        _mm512_storeu_si512(ds_pairs + x + kLanes, _mm512_unpackhi_epi16(changes[0], changes[1]));
    }
}

// Of kBlock keys, the one in this column of pairs of queries.
ESC_INLINE int64_t key_in_pairs(int64_t column) {
    return column % kLanes / 4 * 8 + column / kLanes * 4 + column % 4;
}

// The gradients that kSquare queries give, from q and g; sums (kSquare, wide): those of the queries.
void half_backward_queries(const HalfWork& w, int64_t first) {
    memset(w.sums, 0, sizeof(float) * kSquare * w.wide);
    for (int64_t begin = 0; begin < w.n; begin += kSquare) {
        for (int64_t key = begin; key < begin + kSquare; key += kBlock)
            for (int64_t query = 0; query < kSquare; query += kBlock) {
                w.score(w.scores, w.q + query * w.depth, w.k + key * w.depth / 2);
                w.score(w.grads, w.g + query * w.depth, w.v + key * w.depth / 2);
                for (int64_t i = 0; i < kBlock; i += kSide) {
                    const int64_t from = query + i, x = from / 2 * kSquare + key - begin;
                    half_backward_square(w, w.scores + i * kBlock, w.grads + i * kBlock, first + from, key,
                                         w.ds + from * kSquare + key - begin, w.p_pairs + x, w.ds_pairs + x);
                }
            }
        const Places turned = {kSide, 0, kSquare, 0, 0, kSquare};
        for (int64_t x = 0; x < kSquare; x += kSide)
            for (int64_t c = 0; c < w.wide; c += kSide) {
                const int64_t to = (begin + x) * w.wide + c * kSide;
                product<1, true>(w.grad_k + to, w.q_turned + c * kSquare, w.ds_pairs + x, turned, 1, kSquare);
                product<1, true>(w.grad_v + to, w.g_turned + c * kSquare, w.p_pairs + x, turned, 1, kSquare);
            }
        const Places straight = {w.wide, kSide * w.wide, kSquare, kSide * kSquare, 0, w.wide};
        for (int64_t c = 0; c < w.wide; c += kSide)
            product<4, true>(w.sums + c, w.ds, w.keys + begin / 2 * w.wide + c, straight, 1, kSquare);
    }
}

// What was added up for keys, in tiles (wide, kSide), to a map.
void write_keys(const HalfWork& w, const View& x, Half* to, const float* sums, float scale) {
    for (int64_t key = 0; key < w.n; key += kBlock) {
        const int64_t begin[2] = {w.place(x, key), w.place(x, key + kSide)};
        for (int64_t column = 0; column < kBlock; column += kSide)
            for (int64_t c = 0; c < w.wide; c += kSide, sums += kSide * kSide) {
                alignas(64) Pair turned[kSide * kSide];
                turn_pairs(turned, kSide, reinterpret_cast<const Pair*>(sums), kSide, kSide, kSide);
                for (int64_t i = 0; i < kSide; i++) {
                    const int64_t of = key_in_pairs(column + i);
                    alignas(64) float row[kSide];
                    store(row, load(reinterpret_cast<const float*>(turned + i * kSide)) * scale);
                    copy(to + begin[of / kSide] + of % kSide * x.column + c, 0, row, 0, 1, least(w.width - c, kSide));
                }
            }
    }
}

void half_attention_gradients(const void* problem, int64_t first, int64_t last, float* scratch,
                              float* grad_table) {
    const auto& a = *static_cast<const Attention*>(problem);
    const Tiling tiling;
    const HalfWork w(a, true, scratch);
    const float scale = 1 / __builtin_sqrtf(float(a.width));
    const int64_t biases = w.span * w.span, windows = a.pictures * a.down * a.across;
    w.number();
    for (int64_t item = first; item < last; item++) {
        const int64_t window = item % windows, head = item / windows;
        if (item == first || window == 0) {
            w.scale_table(a.table + head * biases);
            for (float* one : w.grad_table) memset(one, 0, sizeof(float) * (biases + kLanes));
        }
        w.read(w.rows, a.v, w.at(a.v, a, window, head), 0, w.n, 1, kOne);
        w.turn_rows(w.v);
        w.read(w.rows, a.k, w.at(a.k, a, window, head), 0, w.n, 1, kOne);
        w.turn_rows(w.k);
        w.pair_rows(w.keys, w.rows, w.n);
        memset(w.grad_k, 0, sizeof(float) * w.n * w.wide);
        memset(w.grad_v, 0, sizeof(float) * w.n * w.wide);
        const Half *out = w.at(a.out, a, window, head), *grad_out = w.at(a.grad_out, a, window, head);
        Half* const grad_q = w.at(a.grad_q, a, window, head);
        for (int64_t query = 0; query < w.n; query += kSquare) {
            w.read(w.q, a.q, w.at(a.q, a, window, head), query, kSquare, scale * kLog2e, 0);
            w.read(w.g, a.grad_out, grad_out, query, kSquare, 1, 0);
            const auto turn = [&](Half* to, const Half* from) {
                w.pair_rows(w.pairs, from, kSquare);
                turn_pairs(reinterpret_cast<Pair*>(to), kSquare / 2, w.pairs, w.wide, kSquare / 2, w.wide);
            };
            turn(w.q_turned, w.q);
            turn(w.g_turned, w.g);
            w.each_pixel(a.out, query, kSquare, [&](int64_t pixel, int64_t place) {
                Half *of_g = w.g + (pixel - query) * w.depth, *of_q = w.q + (pixel - query) * w.depth;
                Vec delta{};
                for (int64_t c = 0; c < w.width; c += kLanes) {
                    const __mmask16 there = first_lanes(least(w.width - c, kLanes));
                    const Vec x = widen(_mm256_maskz_loadu_epi16(there, out + place + c));
                    delta += x * widen(_mm256_maskz_loadu_epi16(there, of_g + c));
                }
                w.subtract(of_g, total(delta));
                w.subtract(of_q, a.lse[(window * a.heads + head) * w.n + pixel]);
            });
            half_backward_queries(w, query);
            w.each_pixel(a.grad_q, query, kSquare, [&](int64_t pixel, int64_t place) {
                float* sum = w.sums + (pixel - query) * w.wide;
                for (int64_t c = 0; c < w.wide; c += kLanes) store(sum + c, load(sum + c) * scale);
                copy(grad_q + place, 0, sum, 0, 1, w.width);
            });
        }
        write_keys(w, a.grad_k, w.at(a.grad_k, a, window, head), w.grad_k, 1 / kLog2e);
        write_keys(w, a.grad_v, w.at(a.grad_v, a, window, head), w.grad_v, 1);
        if (item == last - 1 || window == windows - 1)
            for (int64_t i = 0; i < biases; i++)
                grad_table[head * biases + i] += w.grad_table[0][i] + w.grad_table[1][i];
    }
}

int64_t half_attention_gradients_scratch(const void* problem) {
    return HalfWork(*static_cast<const Attention*>(problem), true, nullptr).memory.used;
}

}  // namespace
