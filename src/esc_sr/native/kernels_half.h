// The kernels of a level that rounds. Included last by each such, after its settings.
#pragma once

#include "half.h"
#include "half_attention.h"
#include "half_attention_gradients.h"
#include "half_folded_conv.h"
#include "half_large_conv.h"
#include "kernels.h"

namespace {

constexpr Kernel half_kernels[kKernels] = {
    {attention_items, half_attention_scratch, nullptr, half_attention},
    {attention_items, half_attention_gradients_scratch, attention_sums, half_attention_gradients},
    kHasTiles ? Kernel{row_items<LargeConv>, half_large_conv_scratch<false>, nullptr, half_large_conv}
              : Kernel{row_items<LargeConv>, half_folded_conv_scratch, nullptr, half_folded_conv},
    {row_items<LargeConv>, half_large_conv_scratch<true>, large_conv_sums, half_large_conv_weights},
    {row_items<FeedForward>, feed_forward_scratch<Rounded, false>, nullptr, feed_forward<Rounded>},
    {row_items<FeedForward>, feed_forward_scratch<Rounded, true>, feed_forward_sums,
     feed_forward_gradients<Rounded>},
    {row_items<Pointwise>, pointwise_scratch<Rounded, false>, nullptr, pointwise<Rounded>},
    {row_items<Pointwise>, pointwise_scratch<Rounded, true>, pointwise_sums, pointwise_gradients<Rounded>},
    kWinogradKernel,
    kDecoderKernel,
    kDepthwiseKernel,
};

}  // namespace
