// The C interface: which levels this processor has, and work spread over threads.
#include <stdlib.h>
#include <string.h>

#include <atomic>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <dlfcn.h>
#endif
#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#include <xmmintrin.h>
#endif

#include "levels.h"

namespace {

const Level* const kLevels[] = {&level_generic, &level_avx2, &level_avx512, &level_avx512bf16, &level_amx};

#if defined(__x86_64__)

// Bit `bit` of a register that CPUID leaf 7 fills: 1 ebx, 2 ecx, 3 edx.
bool has(unsigned part, int number, int bit) {
    unsigned registers[4] = {};
    if (!__get_cpuid_count(7, part, &registers[0], &registers[1], &registers[2], &registers[3])) return false;
    return registers[number] >> bit & 1;
}

// Linux lends AMX's registers to a process that asks; other systems are not known to.
bool may_use_tiles() {
#if defined(__linux__)
    constexpr int kAskForState = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    static const bool may = !syscall(SYS_arch_prctl, kAskForState, kTileData);
    return may;
#else
    return false;
#endif
}

#endif

// Whether the level was compiled, the processor has its instructions and the system saves its registers.
bool runs_here(const Level* level) {
    if (!level->kernels) return false;
#if defined(__x86_64__)
    if (level == &level_avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (level == &level_generic) return true;
    const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (level == &level_avx512) return wide;
    const bool rounds = wide && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                        has(1, 0, 5);  // AVX512-BF16
    if (level == &level_avx512bf16) return rounds;
    return rounds && has(0, 3, 22) && has(0, 3, 24) && may_use_tiles();  // AMX-BF16, -TILE
#else
    return level == &level_generic;
#endif
}

const Level* find(const char* name) {
    for (const Level* level : kLevels)
        if (!strcmp(level->name, name) && runs_here(level)) return level;
    return nullptr;
}

const Kernel* find_kernels(const char* name, bool rounds) {
    const Level* level = find(name);
    return !level ? nullptr : rounds ? level->rounding : level->kernels;
}

int64_t up(int64_t floats) { return (floats + 15) / 16 * 16; }

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

// The entry to the threads of GNU's OpenMP, if torch brought it into the process: these wait for work by
// spinning, and threads of our own would have to share the cores with them.
using Parallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
const Parallel kParallel =
#if defined(__linux__)
    reinterpret_cast<Parallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
#else
    nullptr;
#endif

// Call task() on up to `threads` threads at once, at least once.
template <class Task>
void run_on(int threads, Task& task) {
    if (threads > 1 && kParallel)
        return kParallel([](void* task) { (*static_cast<Task*>(task))(); }, &task, unsigned(threads), 0);
    std::vector<std::thread> others;
    try {
        for (others.reserve(threads); int(others.size()) < threads - 1;) others.emplace_back([&] { task(); });
    } catch (const std::system_error&) {
    } catch (const std::bad_alloc&) {
    }
    task();
    for (std::thread& other : others) other.join();
}

// Call work(thread, part) for each part from 0 on. Threads take the next part when they are done with one: some
// cores are slower than others, and some have other work.
template <class Work>
void spread(int threads, int64_t parts, const Work& work) {
    std::atomic<int64_t> started{0}, next{0};
    auto task = [&] {
        [[maybe_unused]] const FlushTiny flush;
        const int64_t thread = started++;
        for (int64_t part; (part = next++) < parts;) work(thread, part);
    };
    run_on(threads, task);
}

// Where something is added up, each thread has one part, so that the same number of threads gives the same sums.
int run(const Kernel& kernel, int threads, const void* problem, float* sums) {
    const int64_t items = kernel.items(problem), added = kernel.sums ? kernel.sums(problem) : 0;
    if (threads > items) threads = int(items > 0 ? items : 1);
    const int64_t parts = added || threads == 1 ? threads : items < 8 * threads ? items : 8 * threads;
    const int64_t scratch = up(kernel.scratch(problem)), own = up(added);
    float* memory = static_cast<float*>(aligned_alloc(64, sizeof(float) * (scratch * threads + own * parts)));
    if (!memory) return 2;
    const Free guard{memory};
    float* const parted = memory + scratch * threads;
    spread(threads, parts, [&](int64_t thread, int64_t part) {
        memset(parted + part * own, 0, sizeof(float) * own);
        kernel.work(problem, items * part / parts, items * (part + 1) / parts, memory + thread * scratch,
                    parted + part * own);
    });
    if (added) memset(sums, 0, sizeof(float) * added);
    for (int64_t part = 0; part < parts; part++)
        for (int64_t i = 0; i < added; i++) sums[i] += parted[part * own + i];
    return 0;
}

}  // namespace

#define ESC_EXPORT extern "C" __attribute__((visibility("default")))

// Changes with whatever is passed: Python refuses a library that was made from other sources.
ESC_EXPORT int esc_sr_interface() { return 8; }

ESC_EXPORT int esc_sr_has_level(const char* name) { return find(name) != nullptr; }

// Whether a level has kernels that round factors to bfloat16.
ESC_EXPORT int esc_sr_rounds(const char* name) {
    const Level* level = find(name);
    return level && level->rounding;
}

// How many numbers a kernel adds up over its items.
ESC_EXPORT int64_t esc_sr_sums(const char* name, int rounds, int kernel, const void* problem) {
    const Kernel* kernels = find_kernels(name, rounds);
    return kernels && kernels[kernel].sums ? kernels[kernel].sums(problem) : 0;
}

// Returns 0, 1 where there is no such level, 2 where there is no memory.
ESC_EXPORT int esc_sr_run(const char* name, int rounds, int kernel, int threads, const void* problem,
                          float* sums) {
    const Kernel* kernels = find_kernels(name, rounds);
    return kernels ? run(kernels[kernel], threads, problem, sums) : 1;
}
