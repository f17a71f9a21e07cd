// The C interface: which levels this processor has, and work spread over threads.
#include <stdlib.h>
#include <string.h>

#include <new>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "levels.h"

namespace {

const Level* const kLevels[] = {&level_generic, &level_avx2, &level_avx512};

// Whether the level was compiled, the processor has its instructions and the system saves its registers.
bool runs_here(const Level* level) {
    if (!level->kernels) return false;
#if defined(__x86_64__)
    if (level == &level_avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (level == &level_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return level == &level_generic;
}

const Level* find(const char* name) {
    for (const Level* level : kLevels)
        if (!strcmp(level->name, name) && runs_here(level)) return level;
    return nullptr;
}

struct Free {
    void* memory;
    ~Free() { free(memory); }
};

// While it lives, this thread takes numbers below 2^-126 for 0: weights so small are common, change nothing and
// take a hundred times as long on x86.
struct FlushTiny {
#if defined(__x86_64__)
    const unsigned before = _mm_getcsr();
    FlushTiny() { _mm_setcsr(before | 0x8040); }
    ~FlushTiny() { _mm_setcsr(before); }
#endif
};

// Call work(thread, first, last) on `threads` equal parts of `items`, in threads where the system gives some.
template <class Work>
void spread(int threads, int64_t items, const Work& work) {
    std::vector<std::thread> others;
    const auto part = [&](int64_t thread) {
        [[maybe_unused]] const FlushTiny flush;
        work(thread, items * thread / threads, items * (thread + 1) / threads);
    };
    int started = 1;
    try {
        for (others.reserve(threads); started < threads; started++) others.emplace_back(part, started);
    } catch (const std::system_error&) {
    } catch (const std::bad_alloc&) {
    }
    part(0);
    for (int thread = started; thread < threads; thread++) part(thread);
    for (std::thread& other : others) other.join();
}

// Sums of all threads, in their order, go into `sums`.
int run(const Kernel& kernel, int threads, const void* problem, float* sums) {
    const int64_t items = kernel.items(problem), added = kernel.sums ? kernel.sums(problem) : 0;
    if (threads > items) threads = int(items > 0 ? items : 1);
    const int64_t scratch = (kernel.scratch(problem) + 15) / 16 * 16, own = scratch + (added + 15) / 16 * 16;
    float* memory = static_cast<float*>(aligned_alloc(64, sizeof(float) * own * threads));
    if (!memory) return 2;
    const Free guard{memory};
    spread(threads, items, [&](int64_t thread, int64_t first, int64_t last) {
        float* mine = memory + thread * own;
        memset(mine + scratch, 0, sizeof(float) * added);
        kernel.work(problem, first, last, mine, mine + scratch);
    });
    if (added) memset(sums, 0, sizeof(float) * added);
    for (int thread = 0; thread < threads; thread++)
        for (int64_t i = 0; i < added; i++) sums[i] += memory[thread * own + scratch + i];
    return 0;
}

}  // namespace

#define ESC_EXPORT extern "C" __attribute__((visibility("default")))

// Changes with whatever is passed: Python refuses a library that was made from other sources.
ESC_EXPORT int esc_sr_interface() { return 4; }

ESC_EXPORT int esc_sr_has_level(const char* name) { return find(name) != nullptr; }

// How many numbers a kernel adds up over its items.
ESC_EXPORT int64_t esc_sr_sums(const char* name, int kernel, const void* problem) {
    const Level* level = find(name);
    return level && level->kernels[kernel].sums ? level->kernels[kernel].sums(problem) : 0;
}

// Returns 0, 1 where there is no such level, 2 where there is no memory.
ESC_EXPORT int esc_sr_run(const char* name, int kernel, int threads, const void* problem, float* sums) {
    const Level* level = find(name);
    return level ? run(level->kernels[kernel], threads, problem, sums) : 1;
}
