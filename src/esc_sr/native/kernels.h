// All kernels of a level. Included last by each, after its settings.
#pragma once

#include "attention_gradients.h"
#include "decoder.h"
#include "feed_forward.h"
#include "large_conv.h"
#include "pointwise.h"
#include "winograd.h"

namespace {

constexpr Kernel kWinogradKernel = {row_items<Winograd>, winograd_scratch, nullptr, winograd};
constexpr Kernel kDecoderKernel = {decoder_items, decoder_scratch, nullptr, decoder};
constexpr Kernel kDepthwiseKernel = {row_items<LargeConv>, large_conv_scratch, nullptr, depthwise_conv};
constexpr Kernel kernels[kKernels] = {
    {attention_items, attention_scratch, nullptr, attention},
    {attention_items, attention_gradients_scratch, attention_sums, attention_gradients},
    {row_items<LargeConv>, large_conv_scratch, nullptr, large_conv},
    {row_items<LargeConv>, large_conv_scratch, large_conv_sums, large_conv_weights},
    {row_items<FeedForward>, feed_forward_scratch<Exact, false>, nullptr, feed_forward<Exact>},
    {row_items<FeedForward>, feed_forward_scratch<Exact, true>, feed_forward_sums, feed_forward_gradients<Exact>},
    {row_items<Pointwise>, pointwise_scratch<Exact, false>, nullptr, pointwise<Exact>},
    {row_items<Pointwise>, pointwise_scratch<Exact, true>, pointwise_sums, pointwise_gradients<Exact>},
    kWinogradKernel,
    kDecoderKernel,
    kDepthwiseKernel,
};

}  // namespace
