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

// x Phi(x) by a polynomial, error 8e-5, for what is rounded to bfloat16 next.
ESC_INLINE Vec rough_gelu(Vec x) {
    const Vec near = larger(splat(-4.2f), x < 4.2f ? x : splat(4.2f)), square = near * near;
    Vec p = square * -9.017485e-10f + 7.941306e-08f;
    p = p * square - 3.0379222e-06f;
    p = p * square + 6.689055e-05f;
    p = p * square - 0.00095065637f;
    p = p * square + 0.009298224f;
    p = p * square - 0.06552819f;
    p = p * square + 0.39846587f;
    return x * (near * p + 0.5f);
}

template <class Products>
struct FeedForwardWork {
    const FeedForward& p;
    const int64_t in, hidden, out;  // floats of a pixel
    Memory memory;
    Products products;
    typename Products::Factor expand_turned, project_turned, expand, project;
    // Rings of four rows: h; of the backward the derivative of the first GELU, the gradients of the second
    // one's argument and of its sum with h.
    float *h, *slope, *grad_d, *grad_z;
    float *x, *y, *z;

    FeedForwardWork(const FeedForward& p, bool backward, float* base)
        : p(p), in(pitch(p.in)), hidden(pitch(p.hidden)), out(pitch(p.out)), memory{base},
          products(memory, kWhole, most(p.hidden, most(p.in, p.out))),
          expand_turned(products.factor(memory, p.expand_turned, p.in, p.hidden)),
          project_turned(products.factor(memory, p.project_turned, p.hidden, p.out)),
          expand(products.factor(memory, p.expand, p.hidden, p.in)),
          project(products.factor(memory, p.project, p.out, p.hidden)) {
        const int64_t ring = 4 * kWhole * hidden;
        const auto take_ring = [&](bool wanted) { return wanted ? memory.take(ring) : nullptr; };
        h = take_ring(true), slope = take_ring(backward), grad_d = take_ring(backward);
        grad_z = take_ring(backward);
        x = memory.take(kWhole * in), y = memory.take(kWhole * out), z = memory.take(kWhole * hidden);
        if (!base) return;
        products.prepare(expand_turned);
        if (!backward) products.prepare(project_turned);
        if (backward) products.prepare(expand), products.prepare(project);
    }

    float* of(float* ring, int64_t row, const Span& s) const {
        return ring + ((row & 3) * kWhole + s.at()) * hidden;
    }

    struct Rows {  // a row and its neighbours
        const float *above, *here, *below;

        Rows(const FeedForwardWork& w, float* ring, int64_t row, const Span& s)
            : above(w.of(ring, row - 1, s)), here(w.of(ring, row, s)), below(w.of(ring, row + 1, s)) {}
    };

    // Set to zero what a 3x3 kernel sees outside of the picture: two columns, or the whole row.
    void clear_outside(float* ring, int64_t row, const Span& s) {
        float* first = of(ring, row, s);
        if (s.first == 0) memset(first - 2 * hidden, 0, sizeof(float) * 2 * hidden);
        if (s.last == p.width) memset(first + s.count() * hidden, 0, sizeof(float) * 2 * hidden);
        if (row < 0 || row >= p.height) memset(first, 0, sizeof(float) * s.count() * hidden);
    }

    template <bool kDerivative>
    static ESC_INLINE Vec activate(Vec x, Vec* derivative) {
        return kDerivative || !Products::kRounds ? gelu<kDerivative>(x, derivative) : rough_gelu(x);
    }

    // h = gelu(expand(x)) of a row, and its derivative; zeros outside of the picture.
    template <bool kDerivative>
    void make_hidden(int64_t picture, int64_t row, const Span& s) {
        clear_outside(h, row, s);
        if (row < 0 || row >= p.height) return;
        float *to = of(h, row, s), *derivative = kDerivative ? of(slope, row, s) : nullptr;
        Matrix from = read_row(x, p.x, picture, row, p.in, s);
        if (p.epsilon) from = normalise_row(x, from, p.in, s.count(), float(p.epsilon));
        products.apply(to, hidden, {p.expand_bias, 0}, from, expand_turned, s.count(), p.hidden, p.in);
        for (int64_t c = 0, last = s.count() * hidden; c < last; c += kLanes) {
            Vec slope_here;
            store(to + c, activate<kDerivative>(load(to + c), &slope_here));
            if (kDerivative) store(derivative + c, slope_here);
        }
    }

    // z = gelu(depthwise(h)) + h of a row; grad_z becomes grad_d by the derivative of that GELU.
    template <bool kBackward>
    void mix(int64_t row, const Span& s) {
        const Rows from(*this, h, row, s);
        const float* grad = kBackward ? of(grad_z, row, s) : nullptr;
        float *grad_to = kBackward ? of(grad_d, row, s) : nullptr, *to = z + s.at() * hidden;
        const int64_t step = hidden, last = s.count() * step;
        for (int64_t c = 0; c < step; c += kLanes) {
            const Vec bias = load(p.depthwise_bias + c);
            Vec k[9];
            ESC_EACH(i, 9) k[i] = load(p.depthwise + i * step + c);
            for (int64_t x = c; x < last; x += step) {
                Vec sum = bias, slope_here;
                ESC_EACH(j, 3) {
                    sum += load(from.above + x + (j - 1) * step) * k[j];
                    sum += load(from.here + x + (j - 1) * step) * k[3 + j];
                    sum += load(from.below + x + (j - 1) * step) * k[6 + j];
                }
                store(to + x, activate<kBackward>(sum, &slope_here) + load(from.here + x));
                if (kBackward) store(grad_to + x, load(grad + x) * slope_here);
            }
        }
    }

    // The gradient of h times the derivative of its GELU, into z: that of the expansion's result.
    void return_to_expansion(int64_t row, const Span& s) {
        const Rows from(*this, grad_d, row, s);
        const float *grad = of(grad_z, row, s), *derivative = of(slope, row, s);
        float* to = z + s.at() * hidden;
        const int64_t step = hidden, last = s.count() * step;
        for (int64_t c = 0; c < step; c += kLanes) {
            Vec k[9];
            ESC_EACH(i, 9) k[i] = load(p.depthwise + i * step + c);
            for (int64_t x = c; x < last; x += step) {
                Vec sum = load(grad + x);
                ESC_EACH(j, 3) {
                    sum += load(from.below + x + (1 - j) * step) * k[j];
                    sum += load(from.here + x + (1 - j) * step) * k[3 + j];
                    sum += load(from.above + x + (1 - j) * step) * k[6 + j];
                }
                store(to + x, sum * load(derivative + x));
            }
        }
    }

    // sums (3, 3, hidden), (hidden) += the gradients of the depthwise convolution.
    void gather_depthwise(int64_t row, const Span& s, float* sums, float* bias) {
        const Rows from(*this, h, row, s);
        const float* grad = of(grad_d, row, s);
        const int64_t step = hidden, last = s.count() * step;
        for (int64_t c = 0; c < step; c += kLanes) {
            Vec acc[10] = {};
            for (int64_t x = c; x < last; x += step) {
                const Vec here = load(grad + x);
                acc[9] += here;
                ESC_EACH(j, 3) {
                    acc[j] += load(from.above + x + (j - 1) * step) * here;
                    acc[3 + j] += load(from.here + x + (j - 1) * step) * here;
                    acc[6 + j] += load(from.below + x + (j - 1) * step) * here;
                }
            }
            ESC_EACH(i, 9) store(sums + i * step + c, load(sums + i * step + c) + acc[i]);
            store(bias + c, load(bias + c) + acc[9]);
        }
    }
};

// The gradient of the result's row, from its two maps.
template <class Work>
void load_grad(const Work& w, int64_t picture, int64_t row, const Span& s) {
    const FeedForward& p = w.p;
    if (w.out > p.out) memset(w.y, 0, sizeof(float) * w.out * s.count());
    load_part(w.y, w.out, p.grad_y, picture, row, p.cut, s);
    load_part(w.y + p.cut, w.out, p.grad_rest, picture, row, p.out - p.cut, s);
}

template <class Products, bool kBackward>
int64_t feed_forward_scratch(const void* problem) {
    return FeedForwardWork<Products>(*static_cast<const FeedForward*>(problem), kBackward, nullptr).memory.used;
}

template <class Products>
void feed_forward(const void* problem, int64_t first, int64_t last, float* scratch, float*) {
    const auto& p = *static_cast<const FeedForward*>(problem);
    [[maybe_unused]] const typename Products::Scope scope;
    FeedForwardWork<Products> w(p, false, scratch);
    const Items items(p.pictures, p.height, p.width);
    for (int64_t item = first; item < last; item++) {
        const int64_t picture = items.picture(item), left = items.left(item), top = items.top(item);
        const Span own = span(left, p.width, 0), wide = span(left, p.width, 1);
        w.template make_hidden<false>(picture, top - 1, wide);
        w.template make_hidden<false>(picture, top, wide);
        for (int64_t r = top; r < items.bottom(item); r++) {
            w.template make_hidden<false>(picture, r + 1, wide);
            w.template mix<false>(r, own);
            w.products.apply(w.y, w.out, {p.project_bias, 0}, {w.z + own.at() * w.hidden, w.hidden}, w.project_turned,
                             own.count(), p.out, p.hidden);
            store_row(p.y, picture, r, w.y, w.out, p.cut, own);
            store_row(p.rest, picture, r, w.y + p.cut, w.out, p.out - p.cut, own);
        }
    }
}

// The sums, one after the other, the last dimension in sixteens.
struct FeedForwardSums {
    float *expand, *expand_bias;        // (hidden, in), (hidden)
    float *depthwise, *depthwise_bias;  // (3, 3, hidden), (hidden)
    float *project, *project_bias;      // (out, hidden), (out)
    int64_t used;

    FeedForwardSums(const FeedForward& p, float* base) {
        Memory m{base};
        const int64_t hidden = pitch(p.hidden);
        expand = m.take(p.hidden * pitch(p.in)), expand_bias = m.take(hidden);
        depthwise = m.take(9 * hidden), depthwise_bias = m.take(hidden);
        project = m.take(p.out * hidden), project_bias = m.take(pitch(p.out));
        used = m.used;
    }
};

int64_t feed_forward_sums(const void* problem) {
    return FeedForwardSums(*static_cast<const FeedForward*>(problem), nullptr).used;
}

template <class Products>
void feed_forward_gradients(const void* problem, int64_t first, int64_t last, float* scratch, float* sums) {
    const auto& p = *static_cast<const FeedForward*>(problem);
    [[maybe_unused]] const typename Products::Scope scope;
    FeedForwardWork<Products> w(p, true, scratch);
    const FeedForwardSums to(p, sums);
    const Items items(p.pictures, p.height, p.width);
    for (int64_t item = first; item < last; item++) {
        const int64_t picture = items.picture(item), left = items.left(item);
        const int64_t top = items.top(item), bottom = items.bottom(item);
        const Span own = span(left, p.width, 0), wide = span(left, p.width, 1), wider = span(left, p.width, 2);
        float* z = w.z + own.at() * w.hidden;
        w.template make_hidden<true>(picture, top - 2, wider);
        w.template make_hidden<true>(picture, top - 1, wider);
        for (int64_t r = top - 1; r <= bottom; r++) {  // r: of the depthwise convolution; r - 1: of x
            w.template make_hidden<true>(picture, r + 1, wider);
            w.clear_outside(w.grad_d, r, wide);
            if (r >= 0 && r < p.height) {
                load_grad(w, picture, r, wide);
                float* grad_z = w.of(w.grad_z, r, wide);
                w.products.apply(grad_z, w.hidden, biases(grad_z, nullptr, p.hidden, wide.count()), {w.y, w.out},
                                 w.project, wide.count(), p.hidden, p.out);
                w.template mix<true>(r, wide);
            }
            if (r >= top && r < bottom) {
                const float* grad = w.y + (own.first - wide.first) * w.out;
                w.products.gather(to.project, {grad, w.out}, {z, w.hidden}, p.out, p.hidden, own.count());
                add_row(to.project_bias, grad, p.out, own.count());
                w.gather_depthwise(r, own, to.depthwise, to.depthwise_bias);
            }
            if (r - 1 < top) continue;
            w.return_to_expansion(r - 1, own);
            const Matrix x = read_row(w.x, p.x, picture, r - 1, p.in, own);
            w.products.gather(to.expand, {z, w.hidden}, x, p.hidden, p.in, own.count());
            add_row(to.expand_bias, z, p.hidden, own.count());
            w.products.apply(w.x, w.in, biases(w.x, nullptr, p.in, own.count()), {z, w.hidden}, w.expand, own.count(),
                             p.in, p.hidden);
            store_row(p.grad_x, picture, r - 1, w.x, w.in, p.in, own);
        }
    }
}

}  // namespace
