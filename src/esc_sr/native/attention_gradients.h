// The gradients of window attention; see attention.h.
#pragma once

#include "attention.h"

namespace {

// (keys, padded) to (keys, width).
void unpack_keys(const Work& w, const View& x, float* to, float scale, const float* from) {
    each_run(w.side, x, 0, w.n, [&](int64_t pixel, int64_t place, int64_t n) {
        copy(to + place, x.column, x.width, from + pixel * w.padded, w.padded, 1, n, w.width, scale);
    });
}

// sums (keys, padded) += x (keys, kQueries) rows (kQueries, padded).
void scatter(const Work& w, float* sums, const float* x, const float* rows, int64_t keys) {
    for (int64_t d = 0; d < w.padded; d += kLanes)
        for (int64_t v = 0; v < kVectors; v++) {
            Vec row[kLanes];
            ESC_EACH(l, kLanes) row[l] = load(rows + (v * kLanes + l) * w.padded + d);
            const float* in = x + v * kLanes;
            float* out = sums + d;
            for (int64_t key = 0; key < keys; key++, in += kQueries, out += w.padded) {
                Vec acc = load(out);
                ESC_EACH(l, kLanes) acc += row[l] * in[l];
                store(out, acc);
            }
        }
}

// Add the gradients of the scores of keys first <= key < last to those of the biases that they hold. From one
// key to the next in a row the biases move up by one lane, and so do their sums.
void gather_biases(const Work& w, int64_t first, int64_t last) {
    for (int64_t key = first, end; key < last; key = end) {
        end = least((key / w.side + 1) * w.side, last);
        for (int64_t v = 0; v < kVectors; v++)
            for (int64_t i = 0; i < w.lanes[v].runs; i++) {
                const Ints inside = w.lanes[v].inside[i];
                const float* in = w.ds + (key - first) * kQueries + v * kLanes;
                float* out = w.grad_table + w.lanes[v].run[i] - w.key[key];
                const auto next = [&] { return (Vec)((Ints)load(in) & inside); };
                Vec sum = load(out) + next();
                store(out, sum);
                for (int64_t x = key + 1; x < end; x++) {
                    in += kQueries, out--;
                    sum = move_up(sum, *out) + next();
                    store(out, sum);
                }
            }
    }
}

void backward_queries(Work& w, const Vec (&lse)[kVectors], const Vec (&delta)[kVectors], int64_t first) {
    w.find_lanes(first);
    memset(w.sums, 0, sizeof(float) * w.chunked * kQueries);
    Vec one[kVectors];
    for (int v = 0; v < kVectors; v++) one[v] = splat(1);
    for (int64_t begin = 0; begin < w.n; begin += kKeys) {
        const int64_t keys = least(kKeys, w.keys - begin), there = least(kKeys, w.n - begin);
        for (int64_t key = begin; key < begin + keys; key += kTile) {
            float *p = w.p + (key - begin) * kQueries, *ds = w.ds + (key - begin) * kQueries;
            Vec acc[kTile][kVectors];
            biases(w, key, acc);
            multiply_tile(acc, w.q, w.k + key * w.chunked, w.width);
            if (key + kTile > w.n) drop(acc, w.n - key);
            ESC_EACH(i, kTile) ESC_EACH(v, kVectors) {
                store(p + i * kQueries + v * kLanes, exp2(acc[i][v] - lse[v]));
                acc[i][v] = -delta[v];
            }
            multiply_tile(acc, w.g, w.v + key * w.chunked, w.width);
            ESC_EACH(i, kTile) ESC_EACH(v, kVectors) {
                const int64_t x = i * kQueries + v * kLanes;
                store(ds + x, load(p + x) * acc[i][v]);
            }
        }
        gather(w, w.sums, one, w.ds, w.k + begin * w.chunked, keys);
        scatter(w, w.grad_k + begin * w.padded, w.ds, w.q_rows, there);
        scatter(w, w.grad_v + begin * w.padded, w.p, w.g_rows, there);
        gather_biases(w, begin, begin + there);
    }
}

int64_t attention_gradients_scratch(const void* problem) {
    return Work(*static_cast<const Attention*>(problem), true, nullptr).used;
}

int64_t attention_sums(const void* problem) {  // the gradient of the table
    const auto& a = *static_cast<const Attention*>(problem);
    return a.heads * (2 * a.side - 1) * (2 * a.side - 1);
}

void attention_gradients(const void* problem, int64_t first, int64_t last, float* scratch,
                         float* grad_table) {
    const auto& a = *static_cast<const Attention*>(problem);
    Work w(a, true, scratch);
    const float scale = 1 / __builtin_sqrtf(float(a.width));
    const int64_t biases = w.span * w.span;
    const int64_t windows = a.pictures * a.down * a.across;
    w.number_keys();
    for (int64_t item = first; item < last; item++) {
        const int64_t window = item % windows, head = item / windows;
        if (item == first || window == 0) {
            w.turn_table(a.table + head * biases);
            memset(w.grad_table, 0, sizeof(float) * (biases + 2 * kLanes));
        }
        pack_tiles(w, a.k, at(a.k, a, window, head), w.k);
        pack_tiles(w, a.v, at(a.v, a, window, head), w.v);
        memset(w.grad_k, 0, sizeof(float) * w.keys * w.padded);
        memset(w.grad_v, 0, sizeof(float) * w.keys * w.padded);
        for (int64_t query = 0; query < w.n; query += kQueries) {
            Vec lse[kVectors], delta[kVectors];
            pack_queries(w, a.grad_out, at(a.grad_out, a, window, head), query, 1, w.g, w.g_rows);
            pack_queries(w, a.out, at(a.out, a, window, head), query, 1, w.q, nullptr);
            for (int v = 0; v < kVectors; v++) {
                delta[v] = Vec{};
                for (int64_t d = 0; d < w.width; d++)
                    delta[v] += load(w.g + d * kQueries + v * kLanes) * load(w.q + d * kQueries + v * kLanes);
                for (int64_t l = 0; l < kLanes; l++) {
                    const int64_t x = query + v * kLanes + l;
                    lse[v][l] = x < w.n ? a.lse[(window * a.heads + head) * w.n + x] : 1e30f;
                }
            }
            pack_queries(w, a.q, at(a.q, a, window, head), query, scale * kLog2e, w.q, w.q_rows);
            backward_queries(w, lse, delta, query);
            unpack_queries(w, a.grad_q, at(a.grad_q, a, window, head), query, scale, w.sums);
        }
        unpack_keys(w, a.grad_k, at(a.grad_k, a, window, head), scale, w.grad_k);
        unpack_keys(w, a.grad_v, at(a.grad_v, a, window, head), 1, w.grad_v);
        if (item == last - 1 || window == windows - 1)
            for (int64_t i = 0; i < biases; i++)
                grad_table[head * biases + i] += w.grad_table[kLanes + biases - 1 - i];
    }
}

}  // namespace
