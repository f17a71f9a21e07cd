// 1x1 convolutions and their gradients.
#pragma once

#include "product.h"

namespace {

template <class Products>
struct PointwiseWork {
    Memory memory;
    float *x, *y;
    Products products;
    typename Products::Factor weight;

    PointwiseWork(const Pointwise& p, bool backward, float* base)
        : memory{base}, x(memory.take(kColumns * pitch(p.in))), y(memory.take(kColumns * pitch(p.out))),
          products(memory, kColumns, most(p.in, p.out)),
          weight(products.factor(memory, p.weight, backward ? p.out : p.in, backward ? p.in : p.out)) {
        if (base) products.prepare(weight);
    }
};

// Calls work(picture, row, span) on each row of the items.
template <class Work>
void each_row(const Pointwise& p, int64_t first, int64_t last, const Work& work) {
    const Items items(p.pictures, p.height, p.width);
    for (int64_t item = first; item < last; item++)
        for (int64_t r = items.top(item); r < items.bottom(item); r++)
            work(items.picture(item), r, span(items.left(item), p.width, 0));
}

template <class Products, bool kBackward>
int64_t pointwise_scratch(const void* problem) {
    return PointwiseWork<Products>(*static_cast<const Pointwise*>(problem), kBackward, nullptr).memory.used;
}

template <class Products>
void pointwise(const void* problem, int64_t first, int64_t last, float* scratch, float*) {
    const auto& p = *static_cast<const Pointwise*>(problem);
    [[maybe_unused]] const typename Products::Scope scope;
    const PointwiseWork<Products> w(p, false, scratch);
    const int64_t out = pitch(p.out);
    each_row(p, first, last, [&](int64_t picture, int64_t r, const Span& s) {
        Matrix x = read_row(w.x, p.x, picture, r, p.in, s);
        if (p.epsilon) x = normalise_row(w.x, x, p.in, s.count(), float(p.epsilon));
        const Matrix start = p.adds ? add_biases(w.y, read_row(w.y, p.y, picture, r, p.out, s), p.bias, p.out, s.count())
                                    : biases(w.y, p.bias, p.out, s.count());
        if (lies_whole(p.y, p.out)) {
            float* to = at<float>(p.y, picture, r, s);
            return w.products.apply(to, p.y.column, start, x, w.weight, s.count(), p.out, p.in);
        }
        w.products.apply(w.y, out, start, x, w.weight, s.count(), p.out, p.in);
        store_row(p.y, picture, r, w.y, out, p.out, s);
    });
}

// Sums: (out, in), then (out).
int64_t pointwise_sums(const void* problem) {
    const auto& p = *static_cast<const Pointwise*>(problem);
    return p.out * pitch(p.in) + pitch(p.out);
}

template <class Products>
void pointwise_gradients(const void* problem, int64_t first, int64_t last, float* scratch, float* sums) {
    const auto& p = *static_cast<const Pointwise*>(problem);
    [[maybe_unused]] const typename Products::Scope scope;
    const PointwiseWork<Products> w(p, true, scratch);
    const int64_t in = pitch(p.in), out = pitch(p.out);
    each_row(p, first, last, [&](int64_t picture, int64_t r, const Span& s) {
        load_row(w.y, p.grad_y, picture, r, p.out, s);
        const Matrix x = read_row(w.x, p.x, picture, r, p.in, s);
        w.products.gather(sums, {w.y, out}, x, p.out, p.in, s.count());
        add_row(sums + p.out * in, w.y, p.out, s.count());
        w.products.apply(w.x, in, biases(w.x, nullptr, p.in, s.count()), {w.y, out}, w.weight, s.count(), p.in, p.out);
        store_row(p.grad_x, picture, r, w.x, in, p.in, s);
    });
}

}  // namespace
