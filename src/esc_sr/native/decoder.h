// LTE's decoder (Lee and Jin, CVPR 2022): features and places to colours, for the pixels of a grid.
#pragma once

#include "product.h"

namespace {

constexpr int64_t kPixels = 16, kCorners = 4;  // pixels of the result worked on at once, feature vectors of each

// sin and cos of pi x for |x| < 2^20: x = n / 2 + r with |r| <= 1/4, and polynomials, error 1e-7.
ESC_INLINE void sin_cos_pi(Vec x, Vec* sine, Vec* cosine) {
    const Vec magic = splat(12582912.f);  // 1.5 * 2^23: rounds, and leaves n in the lowest bits
    const Vec t = x * 2.f + magic;
    const Vec r = (x - (t - magic) * 0.5f) * 3.14159265f, square = r * r;
    Vec s = square * -1.9515296e-4f + 8.3321609e-3f;
    s = s * square - 1.6666655e-1f;
    s = s * square * r + r;
    Vec c = square * 2.4433157e-5f - 1.3887316e-3f;
    c = c * square + 4.1666646e-2f;
    c = c * square * square - square * 0.5f + 1.f;
    Ints n;
    memcpy(&n, &t, sizeof n);
    const Vec sine_here = (n & 1) != 0 ? c : s, cosine_here = (n & 1) != 0 ? s : c;
    *sine = (n & 2) != 0 ? -sine_here : sine_here;
    *cosine = ((n + 1) & 2) != 0 ? -cosine_here : cosine_here;
}

struct DecoderWork {
    int64_t waves, whole;  // frequencies, in whole vectors; floats of the widest layer
    float *coef, *freq, *in, *out;
    int64_t used;

    DecoderWork(const Decoder& p, float* base) : waves(pitch(p.hidden / 2)), whole(2 * waves) {
        for (int64_t i = 1; i <= p.layers; i++) whole = most(whole, pitch(p.sizes[i]));
        Memory m{base};
        coef = m.take(2 * waves), freq = m.take(2 * waves);
        in = m.take(kCorners * kPixels * whole), out = m.take(kCorners * kPixels * whole);
        used = m.used;
    }

    // The halves of a pixel's channels, each filled up by zeros.
    void load_halves(float* to, const Map& from, int64_t picture, int64_t row, int64_t column, int64_t half) {
        memset(to, 0, sizeof(float) * 2 * waves);
        const float* first = at(from, picture, row, {0, column, column + 1});
        copy(to, waves, 1, first, half * from.channel, from.channel, 2, half, 1);
    }

    // in (hidden) = coef cos(pi (freq place + phase)), then coef sin(the same).
    void wave(const Decoder& p, float down, float right, float* to) {
        for (int64_t c = 0; c < waves; c += kLanes) {
            Vec sine, cosine;
            sin_cos_pi(load(freq + c) * down + load(freq + waves + c) * right + load(p.phase + c), &sine, &cosine);
            store(to + c, load(coef + c) * cosine);
            store(to + waves + c, load(coef + waves + c) * sine);
        }
    }

    // Bring the rows of `in` through all layers; the colours are left in `in`.
    void decode(const Decoder& p, int64_t rows) {
        const float* weight = p.parameters;
        for (int64_t i = 0; i < p.layers; i++) {
            const int64_t depth = i ? p.sizes[i] : 2 * waves, width = pitch(p.sizes[i + 1]);
            const float* bias = weight + depth * width;
            multiply<false>(out, whole, {bias, 0}, {in, whole}, {weight, width}, rows, p.sizes[i + 1], depth);
            for (int64_t r = 0; r < rows && i + 1 < p.layers; r++)
                for (float *x = out + r * whole, *end = x + width; x < end; x += kLanes)
                    store(x, load(x) < 0 ? Vec{} : load(x));
            float* last = in;
            in = out, out = last, weight = bias + width;
        }
    }
};

int64_t decoder_items(const void* problem) {
    const auto& p = *static_cast<const Decoder*>(problem);
    return p.pictures * p.height * ((p.width + kPixels - 1) / kPixels);
}

int64_t decoder_scratch(const void* problem) {
    return DecoderWork(*static_cast<const Decoder*>(problem), nullptr).used;
}

void decoder(const void* problem, int64_t first, int64_t last, float* scratch, float*) {
    const auto& p = *static_cast<const Decoder*>(problem);
    DecoderWork w(p, scratch);
    const int64_t tiles = (p.width + kPixels - 1) / kPixels;
    for (int64_t item = first; item < last; item++) {
        const int64_t left = item % tiles * kPixels, count = least(kPixels, p.width - left);
        const int64_t row = item / tiles % p.height, picture = item / tiles / p.height;
        for (int64_t x = 0; x < count; x++)
            for (int64_t corner = 0; corner < kCorners; corner++) {
                const int64_t y_at = corner / 2 * p.height + row, x_at = corner % 2 * p.width + left + x;
                w.load_halves(w.coef, p.coef, picture, p.row[y_at], p.column[x_at], p.hidden / 2);
                w.load_halves(w.freq, p.freq, picture, p.row[y_at], p.column[x_at], p.hidden / 2);
                w.wave(p, p.down[y_at], p.right[x_at], w.in + (x * kCorners + corner) * w.whole);
            }
        w.decode(p, count * kCorners);
        for (int64_t x = 0; x < count; x++) {
            float area[kCorners], total = 0;
            for (int64_t corner = 0; corner < kCorners; corner++) {
                const float high = p.down[corner / 2 * p.height + row];
                const float wide = p.right[corner % 2 * p.width + left + x];
                area[corner] = (__builtin_fabsf(high) + 1e-9f) * (__builtin_fabsf(wide) + 1e-9f);
                total += area[corner];
            }
            float* to = at(p.y, picture, row, {0, left + x, left + x + 1});
            for (int64_t c = 0; c < p.sizes[p.layers]; c++) {
                float sum = 0;  // each corner counts as the area on the other side of the pixel
                for (int64_t corner = 0; corner < kCorners; corner++)
                    sum += w.in[(x * kCorners + corner) * w.whole + c] * (area[kCorners - 1 - corner] / total);
                to[c * p.y.channel] = sum;
            }
        }
    }
}

}  // namespace
