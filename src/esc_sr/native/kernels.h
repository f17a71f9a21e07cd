// All kernels of a level. Included last by each, after its settings.
#pragma once

#include "attention.h"
#include "decoder.h"
#include "feed_forward.h"
#include "large_conv.h"
#include "pointwise.h"

namespace {

constexpr Kernel kernels[kKernels] = {
    {attention_items, attention_scratch, nullptr, attention},
    {attention_items, attention_gradients_scratch, attention_sums, attention_gradients},
    {large_conv_items, large_conv_scratch, nullptr, large_conv},
    {large_conv_items, large_conv_scratch, large_conv_sums, large_conv_weights},
    {feed_forward_items, feed_forward_scratch, nullptr, feed_forward},
    {feed_forward_items, feed_forward_gradients_scratch, feed_forward_sums, feed_forward_gradients},
    {pointwise_items, pointwise_scratch, nullptr, pointwise},
    {pointwise_items, pointwise_scratch, pointwise_sums, pointwise_gradients},
    {decoder_items, decoder_scratch, nullptr, decoder},
};

}  // namespace
