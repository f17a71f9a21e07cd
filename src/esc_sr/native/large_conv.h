// The large kernel of ConvAttn with its dynamic 3x3 kernel (Eq. 4, line 3), and the gradients of both; and
// kernels of a channel each of any side (Eq. 5).
//
// The large kernel is the same under the eight flips and rotations of the square, so pixels that lie alike
// around its centre are added up before they are multiplied: 28 products for the 169 values of a 13x13 kernel.
#pragma once

#include "product.h"

namespace {

// Channels are worked on one after the other here, each a row of kPitch floats: its pixels lie in the lanes.
constexpr int64_t kPitch = kWhole + 16;

struct LargeConvWork {
    const LargeConv& p;
    // around: rows and columns of x that one of y needs on each side; whole: floats of a pixel
    const int64_t taps, around, kept, whole;
    float *rows, *folded, *near, *y, *turned;
    int64_t used;

    LargeConvWork(const LargeConv& p, float* base)
        : p(p), taps((p.reach + 1) * (p.reach + 2) / 2), around(most(p.reach, 1)), kept(2 * around + 1),
          whole(pitch(p.channels)) {
        Memory m{base};
        rows = m.take(kept * p.channels * kPitch);
        folded = m.take((p.reach + 1) * kPitch);
        near = m.take(taps * kPitch);
        y = m.take(p.channels * kPitch);
        turned = m.take(kColumns * whole);
        used = m.used;
    }

    static int64_t vectors(const Span& s) { return pitch(s.count()); }  // columns, in whole vectors

    float* row(int64_t row, int64_t channel) const {
        return rows + ((row + kept) % kept * p.channels + channel) * kPitch;
    }

    // Keep row `r` of x: a row outside of the picture, and columns outside, are zeros.
    void keep(int64_t picture, int64_t r, int64_t left) {
        memset(row(r, 0), 0, sizeof(float) * p.channels * kPitch);
        if (r < 0 || r >= p.height) return;
        read(row(r, 0), p.x, picture, r, span(left, p.width, around));
    }

    // One row of a map, channel by channel, or back.
    void read(float* to, const Map& from, int64_t picture, int64_t r, const Span& s) const {
#if defined(__AVX512BF16__)
        if (from.half) return turn_pixels(to + s.at(), at<Half>(from, picture, r, s), from.column, s.count());
#endif
        copy(to + s.at(), kPitch, 1, at(from, picture, r, s), from.channel, from.column, p.channels, s.count(), 1);
    }

    void write(const Map& to, int64_t picture, int64_t r, const Span& s) const {
#if defined(__AVX512BF16__)
        if (to.half) return turn_channels(at<Half>(to, picture, r, s), to.column, y + s.at(), s.count());
#endif
        copy(at(to, picture, r, s), to.channel, to.column, y + s.at(), kPitch, 1, p.channels, s.count(), 1);
    }

#if defined(__AVX512BF16__)

    // Halves, channels of a pixel side by side, to a row of pixels for each channel, or back.
    void turn_pixels(float* to, const Half* from, int64_t step, int64_t count) const {
        for (int64_t x = 0; x < count; x += kLanes, from += kLanes * step)
            for (int64_t c = 0; c < p.channels; c += kLanes) {
                const __mmask16 there = first_lanes(least(p.channels - c, kLanes));
                Vec rows[kLanes] = {};
                for (int64_t i = 0; i < least(count - x, kLanes); i++)
                    rows[i] = widen(_mm256_maskz_loadu_epi16(there, from + i * step + c));
                turn_square(rows);
                for (int64_t l = 0; l < least(p.channels - c, kLanes); l++)
                    store(to + (c + l) * kPitch + x, rows[l]);
            }
    }

    void turn_channels(Half* to, int64_t step, const float* from, int64_t count) const {
        for (int64_t x = 0; x < count; x += kLanes, to += kLanes * step)
            for (int64_t c = 0; c < p.channels; c += kLanes) {
                const __mmask16 there = first_lanes(least(p.channels - c, kLanes));
                Vec rows[kLanes] = {};
                for (int64_t l = 0; l < least(p.channels - c, kLanes); l++)
                    rows[l] = load(from + (c + l) * kPitch + x);
                turn_square(rows);
                for (int64_t i = 0; i < least(count - x, kLanes); i++)
                    _mm256_mask_storeu_epi16(to + i * step + c, there, (__m256i)_mm512_cvtneps_pbh(rows[i]));
            }
    }

#endif

    // folded (reach + 1, columns) = rows that lie alike around row r, added up.
    void fold_rows(int64_t r, int64_t channel, const Span& s) const {
        const int64_t end = kMargin + vectors(s) + p.reach;
        for (int64_t i = 0; i <= p.reach; i++) {
            const float *above = row(r - i, channel), *below = row(r + i, channel);
            float* to = folded + i * kPitch;
            for (int64_t c = 0; c < end; c += kLanes)
                store(to + c, i ? load(above + c) + load(below + c) : load(above + c));
        }
    }

    // Calls work(sum) for each tap: of the vector at column c, those pixels of the folded rows that lie alike.
    template <class Work>
    ESC_INLINE void each_tap(int64_t c, const Work& work) const {
        for (int64_t i = 0; i <= p.reach; i++)
            for (int64_t j = i; j <= p.reach; j++) {
                const float *one = folded + i * kPitch + kMargin + c, *two = folded + j * kPitch + kMargin + c;
                Vec sum = load(one + j);
                if (j) sum += load(one - j);
                if (i < j) sum += load(two + i);
                if (i && i < j) sum += load(two - i);
                work(sum);
            }
    }

    // near (taps, columns) = the sums of those pixels of a channel that lie alike around row r.
    void fold(int64_t r, int64_t channel, const Span& s) const {
        fold_rows(r, channel, s);
        for (int64_t c = 0; c < vectors(s); c += kLanes) {
            float* to = near + kMargin + c;
            each_tap(c, [&](Vec sum) { store(to, sum), to += kPitch; });
        }
    }

    // y (channel, columns) = the channel's own 3x3 kernel over x.
    void convolve_dynamic(int64_t r, int64_t picture, int64_t channel, const Span& s) {
        const float* kernel = p.dynamic + (picture * p.channels + channel) * 9;
        float* to = y + channel * kPitch + kMargin;
        for (int64_t c = 0; c < vectors(s); c += kLanes) {
            Vec sum{};
            ESC_EACH(i, 3) {
                const float* from = row(r + i - 1, channel) + kMargin + c;
                ESC_EACH(j, 3) sum += load(from + j - 1) * kernel[i * 3 + j];
            }
            store(to + c, sum);
        }
    }

    // to (kWide vectors) = a kernel of one channel over x; the sums of its columns are kept apart as `kSets` has them.
    template <int kWide, int kSets>
    ESC_INLINE void convolve_part(float* to, const float* kernel, int64_t r, int64_t channel, int64_t c) const {
        const int64_t side = 2 * p.reach + 1;
        Vec acc[kSets][kWide] = {};
        for (int64_t i = 0; i < side; i++, kernel += side) {
            const float* from = row(r + i - p.reach, channel) + kMargin + c - p.reach;
            for (int64_t j = 0; j < side; j += kSets)
                ESC_EACH(set, kSets)
                    if (j + set < side)
                        ESC_EACH(v, kWide) acc[set][v] += load(from + j + set + v * kLanes) * kernel[j + set];
        }
        ESC_EACH(v, kWide) store(to + v * kLanes, kSets > 1 ? acc[0][v] + acc[kSets - 1][v] : acc[0][v]);
    }

    // y (channel, columns) = the channel's own kernel over x.
    void convolve_own(int64_t r, int64_t picture, int64_t channel, const Span& s) {
        constexpr int kWide = kLanes < 8 ? 8 : kColumns / kLanes, kNarrow = 16 / kLanes;
        const int64_t side = 2 * p.reach + 1, end = vectors(s);
        const float* kernel = p.dynamic + (picture * p.channels + channel) * side * side;
        float* to = y + channel * kPitch + kMargin;
        int64_t c = 0;
        for (; c + kWide * kLanes <= end; c += kWide * kLanes)
            convolve_part<kWide, kWide < 8 ? 2 : 1>(to + c, kernel, r, channel, c);
        for (; c < end; c += 16) convolve_part<kNarrow, 2>(to + c, kernel, r, channel, c);
    }

    // sums (3, 3) += the gradients of the channel's own kernel; y holds the gradient of the output.
    void gather_dynamic(float* sums, int64_t r, int64_t channel, const Span& s) {
        const float* grad = y + channel * kPitch + kMargin;
        Vec acc[9] = {};
        for (int64_t c = 0; c < vectors(s); c += kLanes)
            ESC_EACH(i, 3) {
                const float* from = row(r + i - 1, channel) + kMargin + c;
                ESC_EACH(j, 3) acc[i * 3 + j] += load(from + j - 1) * load(grad + c);
            }
        ESC_EACH(i, 9) sums[i] += total(acc[i]);
    }
};

// Calls work(w, picture, row, span) on each row of the items, with what it reaches kept.
template <class Work>
void each_row(LargeConvWork& w, int64_t first, int64_t last, const Work& work) {
    const LargeConv& p = w.p;
    const Items items(p.pictures, p.height, p.width);
    for (int64_t item = first; item < last; item++) {
        const int64_t picture = items.picture(item), left = items.left(item), top = items.top(item);
        for (int64_t r = top - w.around; r < top + w.around; r++) w.keep(picture, r, left);
        for (int64_t r = top; r < items.bottom(item); r++) {
            w.keep(picture, r + w.around, left);
            work(w, picture, r, span(left, p.width, 0));
        }
    }
}

int64_t large_conv_scratch(const void* problem) {
    return LargeConvWork(*static_cast<const LargeConv*>(problem), nullptr).used;
}

void large_conv(const void* problem, int64_t first, int64_t last, float* scratch, float*) {
    const auto& p = *static_cast<const LargeConv*>(problem);
    LargeConvWork own(p, scratch);
    each_row(own, first, last, [&](LargeConvWork& w, int64_t picture, int64_t r, const Span& s) {
        for (int64_t i = 0; i < p.channels; i++) w.convolve_dynamic(r, picture, i, s);
        for (int64_t i = 0; i < p.channels; i++) {
            w.fold(r, i, s);
            multiply<true>(w.y + kMargin, kPitch, {w.y + kMargin, kPitch}, {p.taps + i * w.taps * w.whole, w.whole},
                           {w.near + kMargin, kPitch}, p.channels, s.count(), w.taps);
        }
        w.write(p.y, picture, r, s);
    });
}

void depthwise_conv(const void* problem, int64_t first, int64_t last, float* scratch, float*) {
    const auto& p = *static_cast<const LargeConv*>(problem);
    LargeConvWork own(p, scratch);
    each_row(own, first, last, [&](LargeConvWork& w, int64_t picture, int64_t r, const Span& s) {
        for (int64_t i = 0; i < p.channels; i++) w.convolve_own(r, picture, i, s);
        w.write(p.y, picture, r, s);
    });
}

// Sums: (in, taps, out in sixteens), then (B, channels, 3, 3).
int64_t large_conv_sums(const void* problem) {
    const auto& p = *static_cast<const LargeConv*>(problem);
    const LargeConvWork w(p, nullptr);
    return p.channels * (w.taps * w.whole + p.pictures * 9);
}

void large_conv_weights(const void* problem, int64_t first, int64_t last, float* scratch, float* sums) {
    const auto& p = *static_cast<const LargeConv*>(problem);
    LargeConvWork own(p, scratch);
    each_row(own, first, last, [&](LargeConvWork& w, int64_t picture, int64_t r, const Span& s) {
        load_row(w.turned, p.grad_y, picture, r, p.channels, s);
        memset(w.y, 0, sizeof(float) * p.channels * kPitch);
        w.read(w.y, p.grad_y, picture, r, s);
        float* dynamic = sums + p.channels * w.taps * w.whole + picture * p.channels * 9;
        for (int64_t i = 0; i < p.channels; i++) {
            w.fold(r, i, s);
            float* to = sums + i * w.taps * w.whole;
            multiply<false>(to, w.whole, {to, w.whole}, {w.near + kMargin, kPitch}, {w.turned, w.whole}, w.taps,
                            p.channels, s.count());
            w.gather_dynamic(dynamic + i * 9, r, i, s);
        }
    });
}

}  // namespace
