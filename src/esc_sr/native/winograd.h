// 3x3 convolutions by Winograd's F(2x2, 3x3): 16 products for each four pixels of the result, where there are 36.
//
// Y = A^T [(G g G^T) . (B^T d B)] A of each 4x4 pixels d, with B^T d = (d0 - d2, d1 + d2, d2 - d1, d1 - d3) and
// A^T m = (m0 + m1 + m2, m1 - m2 - m3); the products of all d with one of the sixteen G g G^T are one of matrices.
#pragma once

#include "product.h"

namespace {

struct WinogradWork {
    static constexpr int64_t kTiles = kColumns / 2;
    const Winograd& p;
    const int64_t in, out, given, made;  // floats of a pixel; of all tiles at one of the sixteen places
    float *rows, *v, *m, *y, *zeros;     // rows: a ring of four
    int64_t used;

    // The sixteen places lie a little more than a power of two apart, so that they share the cache.
    WinogradWork(const Winograd& p, float* base)
        : p(p), in(pitch(p.in)), out(pitch(p.out)), given(kTiles * in + 16), made(kTiles * out + 16) {
        Memory memory{base};
        rows = memory.take(4 * kWhole * in);
        v = memory.take(16 * given), m = memory.take(16 * made);
        y = memory.take(2 * kColumns * out), zeros = memory.take(out);
        used = memory.used;
        if (base) memset(zeros, 0, sizeof(float) * out);
    }

    float* row(int64_t r) const { return rows + (r & 3) * kWhole * in; }

    // Keep row `r` of x: a row outside of the picture, and columns outside, are zeros.
    void keep(int64_t picture, int64_t r, int64_t left) const {
        const Span s = span(left, p.width, 1);
        float* const to = row(r) + s.at() * in;
        memset(row(r), 0, sizeof(float) * kWhole * in);
        if (r < 0 || r >= p.height) return;
        if (!p.epsilon) return load_row(to, p.x, picture, r, p.in, s);
        normalise_row(to, read_row(to, p.x, picture, r, p.in, s), p.in, s.count(), float(p.epsilon));
        for (int64_t x = 0; x < s.count() * in; x += in)
            for (int64_t c = 0; c < in; c += kLanes)
                store(to + x + c, load(to + x + c) * load(p.gain + c) + load(p.shift + c));
    }

    // v = B^T d B of the tiles whose result begins at row `r`.
    void spread(int64_t r, int64_t tiles) const {
        for (int64_t c = 0; c < in; c += kLanes) {
            const float* from[4];
            ESC_EACH(i, 4) from[i] = row(r - 1 + i) + (kMargin - 1) * in + c;
            Vec d[4][4];  // columns of B^T d; each tile shares two with the next
            const auto read = [&](int j) {
                Vec x[4];
                ESC_EACH(i, 4) x[i] = load(from[i]), from[i] += in;
                d[j][0] = x[0] - x[2], d[j][1] = x[1] + x[2], d[j][2] = x[2] - x[1], d[j][3] = x[1] - x[3];
            };
            read(2), read(3);
            float* to = v + c;
            for (int64_t t = 0; t < tiles; t++, to += in) {
                ESC_EACH(i, 4) d[0][i] = d[2][i], d[1][i] = d[3][i];
                read(2), read(3);
                ESC_EACH(i, 4) {
                    float* const places = to + 4 * i * given;
                    store(places, d[0][i] - d[2][i]);
                    store(places + given, d[1][i] + d[2][i]);
                    store(places + 2 * given, d[2][i] - d[1][i]);
                    store(places + 3 * given, d[1][i] - d[3][i]);
                }
            }
        }
    }

    void multiply_places(int64_t tiles) const {
        for (int64_t i = 0; i < 16; i++)
            multiply<false>(m + i * made, out, {zeros, 0}, {v + i * given, in}, {p.weight + i * p.in * out, out}, tiles,
                            p.out, p.in);
    }

    // y (2, columns, out) = A^T m A and the biases.
    void gather(int64_t tiles) const {
        for (int64_t c = 0; c < out; c += kLanes) {
            const Vec bias = p.bias ? load(p.bias + c) : Vec{};
            for (int64_t t = 0; t < tiles; t++) {
                Vec sums[2][4];
                ESC_EACH(j, 4) {
                    Vec x[4];
                    ESC_EACH(i, 4) x[i] = load(m + (4 * i + j) * made + t * out + c);
                    sums[0][j] = x[0] + x[1] + x[2], sums[1][j] = x[1] - x[2] - x[3];
                }
                ESC_EACH(i, 2) {
                    float* const to = y + (i * kColumns + 2 * t) * out + c;
                    store(to, sums[i][0] + sums[i][1] + sums[i][2] + bias);
                    store(to + out, sums[i][1] - sums[i][2] - sums[i][3] + bias);
                }
            }
        }
    }
};

int64_t winograd_scratch(const void* problem) {
    return WinogradWork(*static_cast<const Winograd*>(problem), nullptr).used;
}

void winograd(const void* problem, int64_t first, int64_t last, float* scratch, float*) {
    const auto& p = *static_cast<const Winograd*>(problem);
    const WinogradWork w(p, scratch);
    const Items items(p.pictures, p.height, p.width);
    for (int64_t item = first; item < last; item++) {
        const int64_t picture = items.picture(item), left = items.left(item), top = items.top(item);
        const Span s = span(left, p.width, 0);
        const int64_t tiles = (s.count() + 1) / 2;
        w.keep(picture, top - 1, left), w.keep(picture, top, left);
        for (int64_t r = top; r < items.bottom(item); r += 2) {
            w.keep(picture, r + 1, left), w.keep(picture, r + 2, left);
            w.spread(r, tiles);
            w.multiply_places(tiles);
            w.gather(tiles);
            for (int64_t i = 0; i < least(2, items.bottom(item) - r); i++)
                store_row(p.y, picture, r + i, w.y + i * kColumns * w.out, w.out, p.out, s);
        }
    }
}

}  // namespace
