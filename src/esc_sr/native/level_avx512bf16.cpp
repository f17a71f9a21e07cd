#include "levels.h"

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BF16__)

#include "avx512.h"
#include "kernels_half.h"

const Level level_avx512bf16 = {"avx512bf16", kernels, half_kernels};

#else

const Level level_avx512bf16 = {"avx512bf16", nullptr, nullptr};

#endif
