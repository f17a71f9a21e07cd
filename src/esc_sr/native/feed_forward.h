// ConvFFN (Sec. 3.3, Eq. 3) and its gradients, a row at a time; the backward computes the hidden rows again.
#pragma once

#include "product.h"

namespace {

// x Phi(x), and where wanted its derivative Phi(x) + x phi(x); Phi by Abramowitz and Stegun 7.1.26, error
// 1e-7.
template <bool kDerivative>
ESC_INLINE Vec gelu(Vec x, Vec* derivative) {
    const Vec size = x < 0 ? -x : x;
    const Vec t = inverse(size * 0.231641888f + 1.f);
    const Vec bell = exp2(larger(splat(-126.f), x * x * -0.72134752f));
    Vec tail = t * 0.5307027145f - 0.7265760135f;
    tail = tail * t + 0.7107068705f;
    tail = tail * t - 0.142248368f;
    tail = tail * t + 0.127414796f;
    tail *= t * bell;
    const Vec phi = x < 0 ? tail : 1.f - tail;
    if (kDerivative) *derivative = phi + x * bell * 0.39894228f;
    return x * phi;
}

struct FeedForwardWork {
    const FeedForward& p;
    const int64_t in_lanes, hidden_lanes;  // channels in sixteens
    // Rings of four rows: h; of the backward the derivative of the first GELU, the gradients of the second
    // one's argument and of its sum with h.
    float *h, *slope, *grad_d, *grad_z;
    float *x, *y, *z, *turned, *taps;
    int64_t used;

    FeedForwardWork(const FeedForward& p, bool backward, float* base)
        : p(p), in_lanes(up(p.in, 16)), hidden_lanes(up(p.hidden, 16)) {
        Memory m{base};
        const int64_t ring = 4 * p.hidden * kPitch;
        h = m.take(ring);
        slope = backward ? m.take(ring) : nullptr;
        grad_d = backward ? m.take(ring) : nullptr;
        grad_z = backward ? m.take(ring) : nullptr;
        x = m.take(p.in * kPitch), y = m.take(p.out * kPitch), z = m.take(p.hidden * kPitch);
        turned = backward ? m.take(kColumns * most(in_lanes, hidden_lanes)) : nullptr;
        taps = backward ? m.take(p.hidden * 10 * kLanes) : nullptr;
        used = m.used;
    }

    struct Rows {  // a channel's row and its neighbours
        const float *above, *here, *below;

        Rows(const FeedForwardWork& w, float* ring, int64_t row, int64_t channel)
            : above(w.of(ring, row - 1) + channel * kPitch), here(w.of(ring, row) + channel * kPitch),
              below(w.of(ring, row + 1) + channel * kPitch) {}
    };

    struct Taps {
        Vec of[9];

        explicit Taps(const float* kernel) {
            ESC_EACH(i, 9) of[i] = splat(kernel[i]);
        }
    };

    float* of(float* ring, int64_t row) const { return ring + (row & 3) * p.hidden * kPitch; }

    // h = gelu(expand(x)) of a row, and its derivative; zeros outside of the picture.
    template <bool kDerivative>
    void expand(int64_t picture, int64_t row, const Span& s) {
        float *to = of(h, row), *derivative = kDerivative ? of(slope, row) : nullptr;
        if (row < 0 || row >= p.height) {
            memset(to, 0, sizeof(float) * p.hidden * kPitch);
            return;
        }
        load_row(x, p.x, picture, row, p.in, s);
        fill_rows(to, p.expand_bias, p.hidden, s);
        multiply<true>(to + s.at(), kPitch, p.expand_turned, p.hidden, x + s.at(), kPitch, p.hidden,
                       s.whole(), p.in);
        const int64_t hidden = p.hidden, first = s.at(), last = first + s.whole();
        for (int64_t i = 0; i < hidden; i++)
            for (int64_t c = i * kPitch + first; c < i * kPitch + last; c += kLanes) {
                Vec slope_here;
                store(to + c, gelu<kDerivative>(load(to + c), &slope_here));
                if (kDerivative) store(derivative + c, slope_here);
            }
        clear_outside(to, p.hidden, s, p.width, 2);
    }

    // z = gelu(depthwise(h)) + h of a row; grad_z becomes grad_d by the derivative of that GELU.
    template <bool kBackward>
    void mix(int64_t row, const Span& s) {
        const int64_t first = s.at(), last = first + s.whole();
        for (int64_t i = 0; i < p.hidden; i++) {
            const Rows from(*this, h, row, i);
            float* to = z + i * kPitch;
            const float* grad = kBackward ? of(grad_z, row) + i * kPitch : nullptr;
            float* grad_to = kBackward ? of(grad_d, row) + i * kPitch : nullptr;
            const Vec bias = splat(p.depthwise_bias[i]);
            const Taps k(p.depthwise + i * 9);
            for (int64_t c = first; c < last; c += kLanes) {
                Vec sum = bias, slope_here;
                ESC_EACH(j, 3) {
                    sum += load(from.above + c + j - 1) * k.of[j];
                    sum += load(from.here + c + j - 1) * k.of[3 + j];
                    sum += load(from.below + c + j - 1) * k.of[6 + j];
                }
                store(to + c, gelu<kBackward>(sum, &slope_here) + load(from.here + c));
                if (kBackward) store(grad_to + c, load(grad + c) * slope_here);
            }
        }
        if (kBackward) clear_outside(of(grad_d, row), p.hidden, s, p.width, 2);
    }

    // The gradient of h times the derivative of its GELU, into z: that of the expansion's result.
    void return_to_expansion(int64_t row, const Span& s) {
        const int64_t first = s.at(), last = first + s.whole();
        for (int64_t i = 0; i < p.hidden; i++) {
            const Rows from(*this, grad_d, row, i);
            const float *grad = of(grad_z, row) + i * kPitch, *derivative = of(slope, row) + i * kPitch;
            float* to = z + i * kPitch;
            const Taps k(p.depthwise + i * 9);
            for (int64_t c = first; c < last; c += kLanes) {
                Vec sum = load(grad + c);
                ESC_EACH(j, 3) {
                    sum += load(from.below + c + 1 - j) * k.of[j];
                    sum += load(from.here + c + 1 - j) * k.of[3 + j];
                    sum += load(from.above + c + 1 - j) * k.of[6 + j];
                }
                store(to + c, sum * load(derivative + c));
            }
        }
    }

    // taps (hidden, 10 vectors) += the gradients of the depthwise convolution and its bias, lane by lane.
    void gather_depthwise(int64_t row, const Span& s) {
        const int64_t first = s.at(), count = s.count();
        for (int64_t i = 0; i < p.hidden; i++) {
            const Rows from(*this, h, row, i);
            const float* grad = of(grad_d, row) + i * kPitch;
            float* to = taps + i * 10 * kLanes;
            Vec acc[10];
            ESC_EACH(j, 10) acc[j] = load(to + j * kLanes);
            for (int64_t c = 0; c < count; c += kLanes) {
                const Vec here = first_lanes(load(grad + first + c), count - c);
                acc[9] += here;
                ESC_EACH(j, 3) {
                    acc[j] += load(from.above + first + c + j - 1) * here;
                    acc[3 + j] += load(from.here + first + c + j - 1) * here;
                    acc[6 + j] += load(from.below + first + c + j - 1) * here;
                }
            }
            ESC_EACH(j, 10) store(to + j * kLanes, acc[j]);
        }
    }

    void add_depthwise(float* sums, float* bias) const {
        for (int64_t i = 0; i < p.hidden; i++) {
            ESC_EACH(j, 9) sums[i * 9 + j] += total(load(taps + (i * 10 + j) * kLanes));
            bias[i] += total(load(taps + (i * 10 + 9) * kLanes));
        }
    }
};

int64_t feed_forward_items(const void* problem) {
    const auto& p = *static_cast<const FeedForward*>(problem);
    return Items(p.pictures, p.height, p.width).number;
}

int64_t feed_forward_scratch(const void* problem) {
    return FeedForwardWork(*static_cast<const FeedForward*>(problem), false, nullptr).used;
}

int64_t feed_forward_gradients_scratch(const void* problem) {
    return FeedForwardWork(*static_cast<const FeedForward*>(problem), true, nullptr).used;
}

void feed_forward(const void* problem, int64_t first, int64_t last, float* scratch, float*) {
    const auto& p = *static_cast<const FeedForward*>(problem);
    FeedForwardWork w(p, false, scratch);
    memset(scratch, 0, sizeof(float) * w.used);
    const Items items(p.pictures, p.height, p.width);
    for (int64_t item = first; item < last; item++) {
        const int64_t picture = items.picture(item), left = items.left(item), top = items.top(item);
        const Span own = span(left, p.width, 0), wide = span(left, p.width, 1);
        w.expand<false>(picture, top - 1, wide);
        w.expand<false>(picture, top, wide);
        for (int64_t r = top; r < items.bottom(item); r++) {
            w.expand<false>(picture, r + 1, wide);
            w.mix<false>(r, own);
            fill_rows(w.y, p.project_bias, p.out, own);
            multiply<true>(w.y + own.at(), kPitch, p.project_turned, p.out, w.z + own.at(), kPitch, p.out,
                           own.whole(), p.hidden);
            store_row(p.y, picture, r, w.y, p.cut, own);
            store_row(p.rest, picture, r, w.y + p.cut * kPitch, p.out - p.cut, own);
        }
    }
}

// The sums, one after the other.
struct FeedForwardSums {
    float *expand, *expand_bias;        // (hidden, in in sixteens), (hidden)
    float *depthwise, *depthwise_bias;  // (hidden, 3, 3), (hidden)
    float *project, *project_bias;      // (out, hidden in sixteens), (out)
    int64_t used;

    FeedForwardSums(const FeedForward& p, float* base) {
        int64_t at = 0;
        const auto take = [&](int64_t floats) { return at += floats, base ? base + at - floats : nullptr; };
        expand = take(p.hidden * up(p.in, 16)), expand_bias = take(p.hidden);
        depthwise = take(p.hidden * 9), depthwise_bias = take(p.hidden);
        project = take(p.out * up(p.hidden, 16)), project_bias = take(p.out);
        used = at;
    }
};

int64_t feed_forward_sums(const void* problem) {
    return FeedForwardSums(*static_cast<const FeedForward*>(problem), nullptr).used;
}

void feed_forward_gradients(const void* problem, int64_t first, int64_t last, float* scratch, float* sums) {
    const auto& p = *static_cast<const FeedForward*>(problem);
    FeedForwardWork w(p, true, scratch);
    const FeedForwardSums to(p, sums);
    memset(scratch, 0, sizeof(float) * w.used);
    const Items items(p.pictures, p.height, p.width);
    for (int64_t item = first; item < last; item++) {
        const int64_t picture = items.picture(item), left = items.left(item);
        const int64_t top = items.top(item), bottom = items.bottom(item);
        const Span own = span(left, p.width, 0), wide = span(left, p.width, 1),
                   wider = span(left, p.width, 2);
        w.expand<true>(picture, top - 2, wider);
        w.expand<true>(picture, top - 1, wider);
        for (int64_t r = top - 1; r <= bottom; r++) {  // r: of the depthwise convolution; r - 1: of x
            w.expand<true>(picture, r + 1, wider);
            if (r < 0 || r >= p.height) {
                memset(w.of(w.grad_d, r), 0, sizeof(float) * p.hidden * kPitch);
            } else {
                load_row(w.y, p.grad_y, picture, r, p.cut, wide);
                load_row(w.y + p.cut * kPitch, p.grad_rest, picture, r, p.out - p.cut, wide);
                float* grad_z = w.of(w.grad_z, r) + wide.at();
                fill_rows(w.of(w.grad_z, r), nullptr, p.hidden, wide);
                multiply<true>(grad_z, kPitch, p.project, p.hidden, w.y + wide.at(), kPitch, p.hidden, wide.whole(),
                               p.out);
                w.mix<true>(r, wide);
                if (r >= top && r < bottom) {
                    copy(w.turned, 1, w.hidden_lanes, w.z + own.at(), kPitch, 1, p.hidden, own.count(), 1);
                    multiply<false>(to.project, w.hidden_lanes, w.y + own.at(), kPitch, w.turned,
                                    w.hidden_lanes, p.out, w.hidden_lanes, own.count());
                    add_rows(to.project_bias, w.y, p.out, own);
                    w.gather_depthwise(r, own);
                }
            }
            if (r - 1 < top) continue;
            w.return_to_expansion(r - 1, own);
            load_turned(w.turned, w.in_lanes, p.x, picture, r - 1, p.in, own);
            multiply<false>(to.expand, w.in_lanes, w.z + own.at(), kPitch, w.turned, w.in_lanes, p.hidden,
                            w.in_lanes, own.count());
            add_rows(to.expand_bias, w.z, p.hidden, own);
            fill_rows(w.x, nullptr, p.in, own);
            multiply<true>(w.x + own.at(), kPitch, p.expand, p.in, w.z + own.at(), kPitch, p.in, own.whole(),
                           p.hidden);
            store_row(p.grad_x, picture, r - 1, w.x, p.in, own);
        }
    }
    w.add_depthwise(to.depthwise, to.depthwise_bias);
}

}  // namespace
