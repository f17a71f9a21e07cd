// The large kernel of ConvAttn with its dynamic 3x3 kernel, with factors of products rounded to bfloat16.
//
// A row of pixels, each with its channels, is a row of products' depth too: what a row of the kernel sees of a
// pixel's neighbours lies side by side, and the next pixel sees the same a pixel further on.
#pragma once

#include "half.h"
#include "large_conv.h"

namespace {

struct HalfLargeConv {
    const LargeConv& p;
    const int64_t side, around, whole, depth, kept;  // depth: of a row of the kernel
    Memory memory;
    Half *rows, *turned;  // (kept, kWhole, whole); (kept, whole, kWhole)
    Pair *kernel, *grads, *pairs;
    float *row, *y, *sums;
    int64_t picture = -1;

    HalfLargeConv(const LargeConv& p, bool backward, float* base)
        : p(p), side(most(2 * p.reach + 1, 3)), around(side / 2), whole(pitch(p.channels)),
          depth(up(side * whole, kStep)), kept(Items::kRows + 2 * around), memory{base} {
        rows = memory.take<Half>((kept + 1) * kWhole * whole);
        row = memory.take(kWhole * whole), y = memory.take(kColumns * whole);
        if (!backward) {
            kernel = memory.take<Pair>(side * depth / 2 * whole);
            return;
        }
        turned = memory.take<Half>(kept * kWhole * whole);
        pairs = memory.take<Pair>(kWhole / 2 * whole), sums = memory.take(5 * kSide * kSide);
        grads = memory.take<Pair>(Items::kRows * kColumns / 2 * whole);
    }

    // The values of one place of the kernel between a channel and all others, with the picture's own.
    ESC_INLINE Vec value(int64_t i, int64_t j, int64_t in, int64_t out) const {
        const int64_t down = i < around ? around - i : i - around, right = j < around ? around - j : j - around;
        const int64_t near = least(down, right), far = most(down, right), taps = (p.reach + 1) * (p.reach + 2) / 2;
        Vec x{};
        if (far <= p.reach) {
            const int64_t tap = near * (p.reach + 1) - near * (near - 1) / 2 + far - near;
            x = load(p.taps + (in * taps + tap) * whole + out);
        }
        if (down < 2 && right < 2 && in >= out && in < out + kLanes)
            x[in - out] += p.dynamic[(picture * p.channels + in) * 9 + (i - around + 1) * 3 + j - around + 1];
        return x;
    }

    // (rows of the kernel, its columns and the channels in, channels out) as pairs.
    void make_kernel(int64_t of) {
        if (picture == of) return;
        picture = of;
        Pair* to = kernel;
        for (int64_t i = 0; i < side; i++)
            for (int64_t d = 0; d < depth; d += 2, to += whole)
                for (int64_t out = 0; out < whole; out += kLanes) {
                    Vec x[2] = {};
                    ESC_EACH(e, 2) {
                        const int64_t j = (d + e) / whole, in = (d + e) % whole;
                        if (j < side && in < p.channels) x[e] = value(i, j, in, out);
                    }
                    _mm512_storeu_si512(to + out, paired(x[0], x[1]));
                }
    }

    // Keep the rows that an item sees; what is outside of the picture is zeros.
    void keep(const Items& items, int64_t item) {
        const Span s = span(items.left(item), p.width, around);
        memset(rows, 0, sizeof(Half) * (kept + 1) * kWhole * whole);
        for (int64_t r = 0; r < items.bottom(item) - items.top(item) + 2 * around; r++) {
            const int64_t from = items.top(item) + r - around;
            if (from < 0 || from >= p.height) continue;
            Half* to = rows + (r * kWhole + s.at()) * whole;
            load_row(row, p.x, items.picture(item), from, p.channels, s);
            copy(to, whole, row, whole, s.count(), whole);
        }
    }

    void turn(int64_t r) const {
        const Half* from = rows + r * kWhole * whole;
        Pair* to = reinterpret_cast<Pair*>(turned + r * kWhole * whole);
        for (int64_t x = 0; x < kWhole; x += 2)
            for (int64_t c = 0; c < whole; c += kLanes)
                _mm512_storeu_si512(pairs + x / 2 * whole + c,
                                    paired(from + x * whole + c, from + (x + 1) * whole + c));
        turn_pairs(to, kWhole / 2, pairs, whole, kWhole / 2, whole);
    }
};

template <bool kBackward>
int64_t half_large_conv_scratch(const void* problem) {
    return HalfLargeConv(*static_cast<const LargeConv*>(problem), kBackward, nullptr).memory.used;
}

void half_large_conv(const void* problem, int64_t first, int64_t last, float* scratch, float*) {
    const auto& p = *static_cast<const LargeConv*>(problem);
    const Tiling tiling;
    HalfLargeConv w(p, false, scratch);
    const Items items(p.pictures, p.height, p.width);
    const int64_t row = kWhole * w.whole;
    const Places places = {w.whole, kSide * w.whole, w.whole, kSide * w.whole, row, w.whole};
    for (int64_t item = first; item < last; item++) {
        w.make_kernel(items.picture(item));
        w.keep(items, item);
        const Span s = span(items.left(item), p.width, 0);
        for (int64_t r = items.top(item); r < items.bottom(item); r++) {
            const Half* from = w.rows + (r - items.top(item)) * row + (kMargin - w.around) * w.whole;
            for (int64_t c = 0; c < w.whole; c += kSide) {
                if (s.count() > 2 * kSide) {
                    product<4, false>(w.y + c, from, w.kernel + c, places, w.side, w.depth);
                    continue;
                }
                for (int64_t x = 0; x < s.count(); x += kSide)
                    product<1, false>(w.y + x * w.whole + c, from + x * w.whole, w.kernel + c, places, w.side,
                                      w.depth);
            }
            store_row(p.y, items.picture(item), r, w.y, w.whole, p.channels, s);
        }
    }
}

void half_large_conv_weights(const void* problem, int64_t first, int64_t last, float* scratch, float* sums) {
    const auto& p = *static_cast<const LargeConv*>(problem);
    const Tiling tiling;
    HalfLargeConv w(p, true, scratch);
    const Items items(p.pictures, p.height, p.width);
    const int64_t taps = (p.reach + 1) * (p.reach + 2) / 2, row = kWhole * w.whole;
    const Places places = {kSide, kSide * kSide, kWhole, 1, row, w.whole};
    for (int64_t item = first; item < last; item++) {
        const int64_t picture = items.picture(item), rows = items.bottom(item) - items.top(item);
        const Span s = span(items.left(item), p.width, 0);
        float* const dynamic = sums + p.channels * taps * w.whole + picture * p.channels * 9;
        w.keep(items, item);
        for (int64_t r = 0; r < rows + 2 * w.around; r++) w.turn(r);
        for (int64_t r = 0; r < rows; r++) {
            memset(w.y, 0, sizeof(float) * kColumns * w.whole);
            load_row(w.y, p.grad_y, picture, items.top(item) + r, p.channels, s);
            pack_pairs(w.grads + r * kColumns / 2 * w.whole, w.y, w.whole, kColumns, w.whole);
        }
        // The sums of neighbouring places j on; `add` puts one square (in, out) of them where it belongs.
        const auto add = [&](int64_t i, int64_t j, int64_t in, int64_t out, const float* square) {
            const int64_t down = i < w.around ? w.around - i : i - w.around;
            const int64_t right = j < w.around ? w.around - j : j - w.around;
            const int64_t near = least(down, right), far = most(down, right);
            const int64_t tap = near * (p.reach + 1) - near * (near - 1) / 2 + far - near;
            for (int64_t c = 0; c < least(kSide, p.channels - in); c++) {
                float* to = sums + ((in + c) * taps + tap) * w.whole + out;
                if (far <= p.reach) store(to, load(to) + load(square + c * kSide));
                if (far < 2 && in == out)
                    dynamic[(in + c) * 9 + (i - w.around + 1) * 3 + j - w.around + 1] += square[c * kSide + c];
            }
        };
        for (int64_t in = 0; in < w.whole; in += kSide)
            for (int64_t out = 0; out < w.whole; out += kSide)
                for (int64_t i = 0; i < w.side; i++)
                    for (int64_t j = 0, number; j < w.side; j += number) {
                        const Half* from = w.turned + i * row + in * kWhole + kMargin - w.around + j;
                        number = w.side - j >= 5 ? 5 : w.side - j >= 4 ? 4 : w.side - j >= 2 ? 2 : 1;
                        if (number == 5) product<5, false>(w.sums, from, w.grads + out, places, rows, kColumns);
                        if (number == 4) product<4, false>(w.sums, from, w.grads + out, places, rows, kColumns);
                        if (number == 2) product<2, false>(w.sums, from, w.grads + out, places, rows, kColumns);
                        if (number == 1) product<1, false>(w.sums, from, w.grads + out, places, rows, kColumns);
                        for (int64_t n = 0; n < number; n++) add(i, j + n, in, out, w.sums + n * kSide * kSide);
                    }
    }
}

}  // namespace
