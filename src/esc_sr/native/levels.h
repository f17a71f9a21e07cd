// What the library and its levels tell each other. A level is one set of processor instructions; it is
// compiled with its own flags, so nothing here may become code: plain data only.
#pragma once

#include <stdint.h>

struct View {  // a tensor (windows, heads, pixels, width) of floats, with its strides in floats
    float* data;
    int64_t window, head, pixel, width;
};

struct Attention {
    int64_t side, windows, heads, width;  // pixels = side^2
    View q, k, v, out;
    View grad_out, grad_q, grad_k, grad_v;
    const float* table;  // (heads, (2 side - 1)^2)
    float* grad_table;   // the same
    float* lse;          // (windows, heads, pixels): log2 of the sum of exponentials; null if nobody needs it
};

struct Level {
    const char* name;
    int64_t (*attention_scratch)(const Attention&, bool backward);  // floats that one thread needs
    // Both do items first <= item < last, item = head * windows + window, in scratch aligned to 64 bytes.
    void (*attention_forward)(const Attention&, int64_t first, int64_t last, float* scratch);
    // Adds to grad_table, which is not that of the argument.
    void (*attention_backward)(const Attention&, int64_t first, int64_t last, float* scratch,
                               float* grad_table);
};

extern const Level level_generic, level_avx2, level_avx512;
