// The large kernel of ConvAttn with its dynamic 3x3 kernel as in large_conv.h, with factors of products rounded,
// by vectors: where there are no tiles, adding up pixels that lie alike saves more than it costs.
#pragma once

#include "half.h"
#include "large_conv.h"

namespace {

struct FoldedLargeConv {
    LargeConvWork w;
    const int64_t steps;  // taps in whole pairs
    Half* kernel;         // (in, out, steps)
    Pair* near;           // (steps / 2, columns)
    int64_t used;

    FoldedLargeConv(const LargeConv& p, float* base) : w(p, base), steps(up(w.taps, 2)) {
        Memory m{base, w.used};
        kernel = m.take<Half>(p.channels * p.channels * steps);
        near = m.take<Pair>(steps / 2 * kPitch);
        used = m.used;
    }

    void make_kernel() const {
        const LargeConv& p = w.p;
        memset(kernel, 0, sizeof(Half) * p.channels * p.channels * steps);
        for (int64_t in = 0; in < p.channels; in++)
            for (int64_t tap = 0; tap < w.taps; tap++)
                for (int64_t out = 0; out < p.channels; out += kLanes) {
                    Half rounded[kLanes];
                    narrow(rounded, load(p.taps + (in * w.taps + tap) * w.whole + out));
                    for (int64_t l = 0; l < least(p.channels - out, kLanes); l++)
                        kernel[(in * p.channels + out + l) * steps + tap] = rounded[l];
                }
    }

    // The sums of those pixels of a channel that lie alike around row r, in pairs of taps; see `fold`.
    void fold(int64_t r, int64_t channel, const Span& s) const {
        w.fold_rows(r, channel, s);
        for (int64_t c = 0; c < w.vectors(s); c += kLanes) {
            Vec low{};
            int64_t tap = 0;
            w.each_tap(c, [&](Vec sum) {
                if (tap % 2) _mm512_storeu_si512(near + tap / 2 * kPitch + c, paired(low, sum));
                low = sum, tap++;
            });
            if (tap % 2) _mm512_storeu_si512(near + tap / 2 * kPitch + c, paired(low, Vec{}));
        }
    }
};

int64_t half_folded_conv_scratch(const void* problem) {
    return FoldedLargeConv(*static_cast<const LargeConv*>(problem), nullptr).used;
}

void half_folded_conv(const void* problem, int64_t first, int64_t last, float* scratch, float*) {
    const auto& p = *static_cast<const LargeConv*>(problem);
    FoldedLargeConv f(p, scratch);
    f.make_kernel();
    each_row(f.w, first, last, [&](LargeConvWork& w, int64_t picture, int64_t r, const Span& s) {
        for (int64_t i = 0; i < p.channels; i++) w.convolve_dynamic(r, picture, i, s);
        for (int64_t i = 0; i < p.channels; i++) {
            f.fold(r, i, s);
            multiply_halves(w.y + kMargin, kPitch, f.kernel + i * p.channels * f.steps, f.steps, f.near, kPitch,
                            p.channels, w.vectors(s), f.steps);
        }
        w.write(p.y, picture, r, s);
    });
}

}  // namespace
