// Window attention with relative position bias, softmax(q k^T / sqrt(d) + bias) v.
//
// A vector holds the scores of kLanes queries with one key: sums over keys stay in their lanes, and the biases
// of neighbouring queries lie side by side in the table turned around. Scores are to the base 2: weights are
// 2^score. All is done for kQueries queries and kKeys keys at a time, which stay in the nearest cache.
#pragma once

#include "product.h"

namespace {

constexpr int64_t kQueries = kVectors * kLanes;
constexpr int64_t kKeys = kTile * kTiles;
constexpr float kLog2e = 1.44269504f;

// Where a window's first pixel lies.
ESC_INLINE float* at(const View& x, const Attention& a, int64_t window, int64_t head) {
    const int64_t across = window % a.across, down = window / a.across % a.down;
    return static_cast<float*>(x.data) + window / (a.across * a.down) * x.picture + head * x.head + down * a.side * x.row +
           across * a.side * x.column;
}

// Calls work(pixel, place, n) for runs of `count` pixels from the first on that lie in one row of the window:
// n pixels from `pixel` on lie `place` floats behind the window's first.
template <class Work>
ESC_INLINE void each_run(int64_t side, const View& x, int64_t first, int64_t count, const Work& work) {
    for (int64_t n; count > 0; first += n, count -= n) {
        n = least(count, side - first % side);
        work(first, first / side * x.row + first % side * x.column, n);
    }
}

// Where the biases of the queries in one vector lie: a run for each row of the window that they are in. That
// of lane l, if it is inside run i, with key (r, c) is table[run[i] + l - key], key = r * (2 side - 1) + c.
struct Lanes {
    int64_t runs;
    int64_t run[kLanes];
    Ints inside[kLanes];
};

// Sizes, and one thread's memory cut into pieces; with base null it only counts.
struct Work {
    int64_t side, n, span, width, chunked, padded, keys, used = 0;
    float *table, *grad_table, *k, *v, *q, *g, *q_rows, *g_rows, *sums, *p, *ds, *grad_k, *grad_v;
    int32_t* key;  // r * (2 side - 1) + c of each key
    Lanes lanes[kVectors];
    float longest_key, largest_bias;

    Work(const Attention& a, bool backward, float* base)
        : side(a.side), n(side * side), span(2 * side - 1), width(a.width), chunked(up(width, kChunk)),
          padded(up(width, kLanes)), keys(up(n, kTile)) {
        const auto take = [&](int64_t floats) {
            float* piece = base ? base + used : nullptr;
            used += up(floats, 16);
            return piece;
        };
        const int64_t turned = span * span + 2 * kLanes;
        table = take(turned);
        k = take(keys * chunked), v = take(keys * chunked);
        q = take(chunked * kQueries), sums = take(chunked * kQueries);
        p = take(kKeys * kQueries);
        key = reinterpret_cast<int32_t*>(take(keys));
        if (!backward) return;
        grad_table = take(turned);
        g = take(chunked * kQueries), q_rows = take(padded * kQueries), g_rows = take(padded * kQueries);
        ds = take(kKeys * kQueries);
        grad_k = take(keys * padded), grad_v = take(keys * padded);
    }

    void number_keys() {
        for (int64_t i = 0; i < keys; i++) key[i] = i < n ? int32_t(i / side * span + i % side) : 0;
    }

    void turn_table(const float* from) {
        const int64_t size = span * span;
        for (int64_t i = 0; i < kLanes; i++) table[i] = table[kLanes + size + i] = 0;
        largest_bias = 0;
        for (int64_t i = 0; i < size; i++) {
            const float x = from[size - 1 - i] * kLog2e;
            table[kLanes + i] = x;
            largest_bias = largest_bias >= __builtin_fabsf(x) ? largest_bias : __builtin_fabsf(x);
        }
    }

    // The length of the longest of the packed keys.
    void measure_keys() {
        float longest = 0;
        for (const float* tile = k; tile < k + keys * chunked; tile += kTile * chunked) {
            float square[kTile] = {};
            for (int64_t d = 0; d < width; d++)
                ESC_EACH(i, kTile) square[i] += tile[d * kTile + i] * tile[d * kTile + i];
            ESC_EACH(i, kTile) longest = longest < square[i] ? square[i] : longest;
        }
        longest_key = __builtin_sqrtf(longest);
    }

    void find_lanes(int64_t first) {
        int64_t i = least(first, n - 1) / side, j = least(first, n - 1) % side;
        for (int64_t v = 0; v < kVectors; v++) {
            Lanes& x = lanes[v];
            x.runs = 0;
            for (int64_t l = 0; l < kLanes; l++, first++) {
                if (l == 0 || (j == 0 && first < n)) {
                    x.inside[x.runs] = Ints{};
                    x.run[x.runs++] = kLanes + 2 * side * (side - 1) + i * span + j - l;
                }
                if (first >= n) continue;
                x.inside[x.runs - 1][l] = -1;
                if (++j == side && first < n - 1) i++, j = 0;
            }
        }
    }
};

ESC_INLINE Vec bias(const float* table, const Lanes& lanes, int64_t key) {
    Vec x = load(table + lanes.run[0] - key);
    for (int64_t i = 1; i < lanes.runs; i++) x = lanes.inside[i] ? load(table + lanes.run[i] - key) : x;
    return x;
}

ESC_INLINE void biases(const Work& w, int64_t key, Vec (&to)[kTile][kVectors]) {
    ESC_EACH(i, kTile) ESC_EACH(v, kVectors) to[i][v] = bias(w.table, w.lanes[v], w.key[key + i]);
}

// Give keys that are not there a score that vanishes.
ESC_INLINE void drop(Vec (&scores)[kTile][kVectors], int64_t there) {
    ESC_EACH(i, kTile) ESC_EACH(v, kVectors)
        if (i >= there) scores[i][v] = splat(-1e30f);
}

// Ask for what lies one row of pixels behind a run.
ESC_INLINE void fetch_next(const View& x, const float* run, int64_t n) {
    for (int64_t i = 0; i < n; i++) __builtin_prefetch(run + x.row + i * x.column);
}

// (keys, width) to tiles of kTile keys, (width, kTile) each; what is not there is 0.
void pack_tiles(const Work& w, const View& x, const float* from, float* to) {
    if (w.keys > w.n || w.chunked > w.width) memset(to, 0, sizeof(float) * w.keys * w.chunked);
    for (int64_t key = 0; key < w.n; key += kTile, to += kTile * w.chunked)
        each_run(w.side, x, key, least(kTile, w.n - key), [&](int64_t pixel, int64_t place, int64_t n) {
            fetch_next(x, from + place, n);
            copy(to + pixel - key, 1, kTile, from + place, x.column, x.width, n, w.width, 1);
        });
}

// kQueries of (queries, width) to (width, kQueries), and to rows (kQueries, padded) where wanted.
void pack_queries(const Work& w, const View& x, const float* from, int64_t first, float scale, float* to,
                  float* rows) {
    const int64_t count = least(kQueries, w.n - first);
    if (count < kQueries) memset(to, 0, sizeof(float) * kQueries * w.chunked);
    if (rows && (count < kQueries || w.padded > w.width))
        memset(rows, 0, sizeof(float) * kQueries * w.padded);
    each_run(w.side, x, first, count, [&](int64_t pixel, int64_t place, int64_t n) {
        fetch_next(x, from + place, n);
        copy(to + pixel - first, 1, kQueries, from + place, x.column, x.width, n, w.width, scale);
        if (rows)
            copy(rows + (pixel - first) * w.padded, w.padded, 1, from + place, x.column, x.width, n, w.width,
                 1);
    });
}

// The other way: (width, kQueries) to kQueries of (queries, width).
void unpack_queries(const Work& w, const View& x, float* to, int64_t first, float scale, const float* from) {
    each_run(w.side, x, first, least(kQueries, w.n - first), [&](int64_t pixel, int64_t place, int64_t n) {
        copy(to + place, x.width, x.column, from + pixel - first, kQueries, 1, w.width, n, scale);
    });
}

// acc += x y^T: x (width, kQueries), y one tile (width, kTile).
ESC_INLINE void multiply_tile(Vec (&acc)[kTile][kVectors], const float* x, const float* y, int64_t width) {
    for (int64_t d = 0; d < width; d++, x += kQueries, y += kTile) {
        Vec in[kVectors];
        ESC_EACH(v, kVectors) in[v] = load(x + v * kLanes);
        ESC_EACH(i, kTile) ESC_EACH(v, kVectors) acc[i][v] += in[v] * y[i];
    }
}

// sums (width, kQueries) = factor sums + sum over keys of x (keys, kQueries) y (tiles of keys).
void gather(const Work& w, float* sums, const Vec (&factor)[kVectors], const float* x, const float* y,
            int64_t keys) {
    for (int64_t d = 0; d < w.chunked; d += kChunk, sums += kChunk * kQueries, y += kChunk * kTile) {
        Vec acc[kChunk][kVectors];
        ESC_EACH(c, kChunk) ESC_EACH(v, kVectors)
            acc[c][v] = load(sums + c * kQueries + v * kLanes) * factor[v];
        const float *in = x, *tile = y;
        for (int64_t key = 0; key < keys; key += kTile, tile += kTile * w.chunked)
            for (int i = 0; i < kTile; i++, in += kQueries) {
                Vec here[kVectors];
                ESC_EACH(v, kVectors) here[v] = load(in + v * kLanes);
                ESC_EACH(c, kChunk) ESC_EACH(v, kVectors) acc[c][v] += here[v] * tile[c * kTile + i];
            }
        ESC_EACH(c, kChunk) ESC_EACH(v, kVectors) store(sums + c * kQueries + v * kLanes, acc[c][v]);
    }
}

// Whether no score of the packed queries is beyond 2^60 or 2^-60, by their lengths and those of the keys.
bool stays_small(const Work& w) {
    Vec most_of{};
    for (int64_t v = 0; v < kVectors; v++) {
        Vec square{};
        for (int64_t d = 0; d < w.width; d++) {
            const Vec x = load(w.q + d * kQueries + v * kLanes);
            square += x * x;
        }
        most_of = larger(most_of, square);
    }
    float longest = 0;
    for (int64_t l = 0; l < kLanes; l++) longest = longest < most_of[l] ? most_of[l] : longest;
    return __builtin_sqrtf(longest) * w.longest_key + w.largest_bias < 60;
}

// Where scores stay small their exponentials need no common factor, and are taken before they leave registers.
template <bool kSmall>
void forward_queries(Work& w, int64_t first, float* lse) {
    Vec top[kVectors], total[kVectors], factor[kVectors];
    for (int v = 0; v < kVectors; v++) top[v] = kSmall ? Vec{} : splat(-1e30f), total[v] = Vec{}, factor[v] = splat(1);
    memset(w.sums, 0, sizeof(float) * w.chunked * kQueries);
    w.find_lanes(first);
    for (int64_t begin = 0; begin < w.keys; begin += kKeys) {
        const int64_t keys = least(kKeys, w.keys - begin);
        Vec high[kVectors];
        for (int v = 0; v < kVectors; v++) high[v] = top[v];
        float* p = w.p;
        for (int64_t key = begin; key < begin + keys; key += kTile, p += kTile * kQueries) {
            Vec acc[kTile][kVectors];
            biases(w, key, acc);
            multiply_tile(acc, w.q, w.k + key * w.chunked, w.width);
            if (key + kTile > w.n) drop(acc, w.n - key);
            ESC_EACH(i, kTile) ESC_EACH(v, kVectors) {
                if (kSmall)
                    total[v] += acc[i][v] = exp2(acc[i][v]);
                else
                    high[v] = larger(high[v], acc[i][v]);
                store(p + i * kQueries + v * kLanes, acc[i][v]);
            }
        }
        for (int v = 0; v < kVectors && !kSmall; v++) {
            factor[v] = exp2(top[v] - high[v]);
            total[v] *= factor[v];
            top[v] = high[v];
        }
        p = w.p;
        for (int64_t i = 0; i < keys && !kSmall; i++, p += kQueries)
            ESC_EACH(v, kVectors) {
                const Vec x = exp2(load(p + v * kLanes) - top[v]);
                total[v] += x;
                store(p + v * kLanes, x);
            }
        gather(w, w.sums, factor, w.p, w.v + begin * w.chunked, keys);
    }
    for (int v = 0; v < kVectors; v++) {
        for (int64_t d = 0; d < w.width; d++) {
            float* sum = w.sums + d * kQueries + v * kLanes;
            store(sum, load(sum) / total[v]);
        }
        const Vec all = top[v] + log2(total[v]);
        for (int64_t l = 0; lse && l < least(kLanes, w.n - first - v * kLanes); l++)
            lse[first + v * kLanes + l] = all[l];
    }
}

int64_t attention_items(const void* problem) {
    const auto& a = *static_cast<const Attention*>(problem);
    return a.pictures * a.down * a.across * a.heads;  // item = head * windows + window
}

int64_t attention_scratch(const void* problem) {
    return Work(*static_cast<const Attention*>(problem), false, nullptr).used;
}

void attention(const void* problem, int64_t first, int64_t last, float* scratch, float*) {
    const auto& a = *static_cast<const Attention*>(problem);
    Work w(a, false, scratch);
    const float scale = kLog2e / __builtin_sqrtf(float(a.width));
    const int64_t windows = a.pictures * a.down * a.across;
    w.number_keys();
    for (int64_t item = first; item < last; item++) {
        const int64_t window = item % windows, head = item / windows;
        if (item == first || window == 0) w.turn_table(a.table + head * w.span * w.span);
        pack_tiles(w, a.k, at(a.k, a, window, head), w.k);
        pack_tiles(w, a.v, at(a.v, a, window, head), w.v);
        w.measure_keys();
        for (int64_t query = 0; query < w.n; query += kQueries) {
            pack_queries(w, a.q, at(a.q, a, window, head), query, scale, w.q, nullptr);
            float* const lse = a.lse ? a.lse + (window * a.heads + head) * w.n : nullptr;
            stays_small(w) ? forward_queries<true>(w, query, lse) : forward_queries<false>(w, query, lse);
            unpack_queries(w, a.out, at(a.out, a, window, head), query, 1, w.sums);
        }
    }
}

}  // namespace
