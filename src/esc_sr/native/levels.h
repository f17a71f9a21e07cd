// What the library and its levels tell each other. A level is one set of processor instructions; it is
// compiled with its own flags, so nothing here may become code: plain data only.
#pragma once

#include <stdint.h>

struct View {  // channels of a map seen as (B, heads, width, H, W), with its strides in numbers
    void* data;
    int64_t picture, head, width, row, column;
};

struct Attention {
    int64_t side, pictures, down, across, heads, width;  // H = down side, W = across side, in windows
    View q, k, v, out;
    View grad_out, grad_q, grad_k, grad_v;
    const float* table;  // (heads, (2 side - 1)^2)
    float* lse;          // (B, down, across, heads, side^2): log2 of the sum of exponentials, or null
};

struct Map {  // a tensor (B, C, H, W) of floats or, where `half` is not 0, bfloat16, with its strides in numbers
    void* data;
    int64_t picture, channel, row, column, half;
};

// A convolution of (B, channels, H, W) with a kernel that no flip or rotation of the square changes, plus one
// of each channel with a 3x3 kernel of its own; or, without `taps`, with one of the large side alone. Here and
// below, the last dimension of weights and sums is filled up by zeros to a multiple of 16.
struct LargeConv {
    int64_t pictures, channels, height, width, reach;  // the kernel's side is 2 reach + 1
    Map x, y, grad_y;
    const float* taps;     // (in, taps, out): values at 0 <= row <= column <= reach from the centre
    const float* dynamic;  // (B, channels, side, side), not filled up
};

// project(gelu(d) + h), d = depthwise(h), h = gelu(expand(x)): 1x1, 3x3 and 1x1 convolutions with biases. The
// first `cut` channels of the result are one map, the others, if there are any, a second. Here and below, where
// `epsilon` is not 0, each pixel of x is first brought to mean 0 and variance 1; not for gradients.
struct FeedForward {
    int64_t pictures, in, hidden, out, cut, height, width;
    double epsilon;  // added to the variance
    Map x, y, rest, grad_y, grad_rest, grad_x;
    const float *expand, *expand_turned, *expand_bias;     // (hidden, in), (in, hidden), (hidden)
    const float *depthwise, *depthwise_bias;               // (3, 3, hidden), (hidden)
    const float *project, *project_turned, *project_bias;  // (out, hidden), (hidden, out), (out)
};

// y = weight x + bias at each pixel, or where `adds` is not 0, y += that; not for gradients.
struct Pointwise {
    int64_t pictures, in, out, height, width, adds;
    double epsilon;
    Map x, y, grad_y, grad_x;
    const float *weight, *bias;  // (in, out), for the gradients (out, in); (out), or null
};

// y = x convolved with 3x3 kernels, + bias. Where `epsilon` is not 0, x is what a layer norm makes of it.
struct Winograd {
    int64_t pictures, in, out, height, width;
    double epsilon;
    Map x, y;
    const float *weight, *bias;  // (4, 4, in, out), as in winograd.h; (out), or null
    const float *gain, *shift;   // of the layer norm: (in), (in)
};

// Colours y (B, sizes[layers], height, width) of ESC+LTE: at each pixel and each of the four vectors of features
// around it, waves of that vector go through layers with a ReLU between them, and the results are blended.
struct Decoder {
    int64_t pictures, hidden, layers, height, width;
    Map coef, freq, y;  // freq: first the frequencies downwards, then those to the right
    const int64_t *row, *column;  // (2, height), (2, width): where the vectors are; above and below, and so on
    const float *down, *right;    // how far the pixel is from there
    const float *phase;           // (hidden / 2)
    const int64_t* sizes;         // (layers + 1): channels before, between and after
    const float* parameters;      // of each layer weight (in, out), bias (out); the first has its two halves
};                                // of `in` filled up

// One kernel: work on a problem's items first <= item < last. Items may be worked on in any order and at once.
// What is added up over items goes into `sums`, which start as zeros and which each thread has of its own.
struct Kernel {
    int64_t (*items)(const void* problem);
    int64_t (*scratch)(const void* problem);  // floats that one thread needs, aligned to 64 bytes
    int64_t (*sums)(const void* problem);     // floats that are added up; null where there are none
    void (*work)(const void* problem, int64_t first, int64_t last, float* scratch, float* sums);
};

enum {
    kAttention,
    kAttentionGradients,
    kLargeConv,
    kLargeConvWeights,
    kFeedForward,
    kFeedForwardGradients,
    kPointwise,
    kPointwiseGradients,
    kWinograd,
    kDecoder,
    kDepthwiseConv,
    kKernels
};

struct Level {
    const char* name;
    const Kernel* kernels;  // as the enumeration has them; null where the level was not compiled
    const Kernel* rounding; // the same with factors of products rounded to bfloat16; null where it cannot. They
};                          // take maps that are or are not `half`, with channels side by side; attention takes
                            // such maps only, and windows whose side is a multiple of 16

extern const Level level_generic, level_avx2, level_avx512, level_avx512bf16, level_amx;
