// One source for the device and for the host.
//
// Kernels are grid-stride loops without shared memory, barriers or shuffles that results depend on: a thread sees its index and the
// number of threads, and two threads never write one place in one launch but through atomics. So the same kernels run as plain C++, one
// thread after the other, and everything but the device's own arithmetic is tested on a machine without one. The emulation runs the threads
// of every other launch backwards, and fresh memory holds rubbish.
//
// Every allocation goes through `context`, which keeps the budget, drops what it caches before it refuses, and orders frees after pending
// work. Failures are exceptions here and codes outside (api.cu).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <list>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "stream.cuh"

#if PH_DEVICE_BUILD
#define PH_HD __host__ __device__ __forceinline__
#define PH_DEV __device__ __forceinline__
#define PH_KERNEL static __global__ __launch_bounds__(128) void
#else
#define PH_HD inline
#define PH_DEV inline
#define PH_KERNEL static void
#endif

#if defined(__CUDA_ARCH__)
#define PH_UNROLL _Pragma("unroll")
#define PH_LOOP _Pragma("unroll 1")
#else
#define PH_UNROLL
#define PH_LOOP
#endif

#if PH_DEVICE_BUILD
namespace parhelion_cuda {
#else
namespace parhelion_emulation {
#endif

// ---------------------------------------------------------------------------------------------------------------- threads and atomics

#if PH_DEVICE_BUILD

PH_DEV uint64_t thread_index() { return (uint64_t)blockIdx.x * blockDim.x + threadIdx.x; }
PH_DEV uint64_t thread_count() { return (uint64_t)gridDim.x * blockDim.x; }

PH_DEV void atomic_max(uint32_t* at, uint32_t value) { atomicMax(at, value); }

// The old value; equal addresses within a warp are one access, since a column of ones hits one counter only.
PH_DEV uint32_t atomic_next(uint32_t* at) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 700
    const unsigned active = __activemask();
    const unsigned peers = __match_any_sync(active, (unsigned long long)at);
    const unsigned lane = threadIdx.x & 31;
    const unsigned leader = __ffs(peers) - 1;
    uint32_t base = 0;
    if (lane == leader) base = atomicAdd(at, (uint32_t)__popc(peers));
    base = __shfl_sync(peers, base, leader);
    return base + __popc(peers & ((1u << lane) - 1));
#else
    return atomicAdd(at, 1u);
#endif
}

#else

inline thread_local uint64_t emulated_index = 0;
inline thread_local uint64_t emulated_count = 1;
inline uint64_t thread_index() { return emulated_index; }
inline uint64_t thread_count() { return emulated_count; }
inline void atomic_max(uint32_t* at, uint32_t value) { *at = *at < value ? value : *at; }
inline uint32_t atomic_next(uint32_t* at) { return (*at)++; }

#endif

// ---------------------------------------------------------------------------------------------------------------------------- context

struct context;

// Device memory with one owner.
struct block {
    context* owner = nullptr;
    void* address = nullptr;
    block() = default;
    block(context& c, uint64_t bytes, const char* what);
    block(block&& other) noexcept : owner(other.owner), address(std::exchange(other.address, nullptr)) {}
    block& operator=(block&& other) noexcept {
        std::swap(owner, other.owner);
        std::swap(address, other.address);
        return *this;
    }
    block(const block&) = delete;
    block& operator=(const block&) = delete;
    ~block();
    template <class T> T* as() const { return static_cast<T*>(address); }
};

struct cached;

struct allocation {
    uint64_t bytes;
    // The context's number of calls that compute when it was made: as long as that stays, nothing has been computed with it.
    uint64_t since;
};

struct context {
    int device = 0;
    uint64_t budget = 0, used = 0, launches = 0;
    std::chrono::milliseconds limit{0};
    bool lost = false;
    uint64_t fault_after = 0;
    int32_t fault_code = 0;
    uint32_t radix = 3, processors = 1;
    std::map<uint64_t, allocation> sizes;
    std::shared_ptr<cached> cache;
    std::string error;

    streams work;
    // What was submitted last, and what the kernels have to wait for before they go on.
    mark last[STREAMS], paces[2];
    bool behind[STREAMS] = {};
    uint64_t computed = 0, pending = 0;
    // Slots of the caller, and small ones for tables and results.
    page_locked staging[PH_STAGING_SLOTS], notes[NOTES];
    mark staged[PH_STAGING_SLOTS], noted[NOTES];
    uint32_t note = 0;

    void open();
    void close();
    void evict();
    void* allocate(uint64_t bytes, const char* what, int in);
    void release(void* address) noexcept;
    void upload(void* to, const void* from, uint64_t bytes);
    void download(void* to, const void* from, uint64_t bytes);
    void copy(void* to, const void* from, uint64_t bytes);
    void zero(void* to, uint64_t bytes);
    void stage_out(uint32_t slot, void* to, uint64_t bytes);
    void stage_in(uint32_t slot, const void* from, uint64_t bytes);
    void join();
    void await(const mark& m, const char* what);
    void synchronize();
    void select();
    uint32_t next_note();

    // What tests inject: the n-th step from now fails, or is the last thing that the device hears.
    void step() {
        launches++;
        if (fault_after == 0 || --fault_after != 0) return;
#if !PH_DEVICE_BUILD
        if (fault_code == PH_HANGS) {
            work.hangs = true;
            return;
        }
#endif
        fail(fault_code, "injected");
    }

    // Half of what a queue of launches takes may be pending for each of two marks, so that a launch never blocks.
    void pace() {
        if (++pending % PACE) return;
        const uint64_t at = pending / PACE;
        if (at > 1) await(paces[at & 1], "kernels");
        work.record(paces[at & 1], COMPUTE);
    }
    static constexpr uint64_t PACE = 256;

    template <class... P, class... A> void launch(const char* what, void (*kernel)(P...), uint64_t threads, A... args) {
        if (threads == 0) return;
        step();
        pace();
#if PH_DEVICE_BUILD
        const uint64_t blocks = (threads + 127) / 128;
        kernel<<<(uint32_t)(blocks < (1u << 22) ? blocks : (1u << 22)), 128, 0, work.handle[COMPUTE]>>>(args...);
        const cudaError_t code = cudaGetLastError();
        if (code != cudaSuccess) fail(PH_FAILED, std::string(what) + ": " + cudaGetErrorString(code));
#else
        (void)what;
        const bool backwards = launches % 2;
        work.submit(COMPUTE, [=] {
            // Few enough that strides happen, and no power of two.
            const uint64_t count = threads < 2000 ? threads : 2000 + threads % 97;
            emulated_count = count;
            for (uint64_t i = 0; i < count; i++) {
                emulated_index = backwards ? count - 1 - i : i;
                kernel(args...);
            }
        });
#endif
    }
};

inline void context::select() {
#if PH_DEVICE_BUILD
    check(cudaSetDevice(device), "cudaSetDevice");
#endif
}

inline void context::open() {
    work.open();
    for (auto& m : last) work.make(m);
    for (auto& m : paces) work.make(m);
    for (int i = 0; i < PH_STAGING_SLOTS; i++) {
        work.make(staging[i], PH_STAGING_BYTES);
        work.make(staged[i]);
    }
    for (int i = 0; i < NOTES; i++) {
        work.make(notes[i], NOTE_BYTES);
        work.make(noted[i]);
    }
}

// After the last use, unless the device is lost: then it keeps what it may still be using.
inline void context::close() {
    cache.reset();
    while (!sizes.empty()) release((void*)sizes.begin()->first);
    work.close();
    for (auto& m : last) work.drop(m);
    for (auto& m : paces) work.drop(m);
    for (auto& m : staged) work.drop(m);
    for (auto& m : noted) work.drop(m);
    for (auto& m : staging) work.drop(m);
    for (auto& m : notes) work.drop(m);
}

// Waits until a mark has been passed, or the limit.
inline void context::await(const mark& m, const char* what) {
    const auto begin = std::chrono::steady_clock::now();
    for (uint64_t asked = 0; !work.passed(m); asked++) {
        if (asked < 64) continue;
        const auto since = std::chrono::steady_clock::now() - begin;
        if (since > limit) {
            lost = true;
            fail(PH_LOST, std::string(what) + " did not end within " + std::to_string(limit.count()) + " ms");
        }
        if (since < std::chrono::milliseconds(2)) std::this_thread::yield();
        else std::this_thread::sleep_for(std::chrono::microseconds(since < std::chrono::milliseconds(50) ? 20 : 200));
    }
}

// Lets the kernels that follow wait for the copies so far.
inline void context::join() {
    for (int in : {UP, DOWN}) {
        if (!behind[in]) continue;
        work.record(last[in], in);
        work.follow(COMPUTE, last[in]);
        behind[in] = false;
    }
}

inline void context::synchronize() {
    join();
    work.record(last[COMPUTE], COMPUTE);
    await(last[COMPUTE], "work");
}

inline uint32_t context::next_note() {
    const uint32_t slot = note++ % NOTES;
    await(noted[slot], "a copy");
    return slot;
}

inline void context::upload(void* to, const void* from, uint64_t bytes) {
    for (uint64_t at = 0; at < bytes; at += NOTE_BYTES) {
        const uint64_t some = bytes - at < NOTE_BYTES ? bytes - at : NOTE_BYTES;
        step();
        const uint32_t slot = next_note();
        std::memcpy(notes[slot].address, (const uint8_t*)from + at, some);
        work.copy_up(COMPUTE, (uint8_t*)to + at, notes[slot].address, some);
        work.record(noted[slot], COMPUTE);
    }
}

inline void context::download(void* to, const void* from, uint64_t bytes) {
    for (uint64_t at = 0; at == 0 || at < bytes; at += NOTE_BYTES) {
        const uint64_t some = bytes - at < NOTE_BYTES ? bytes - at : NOTE_BYTES;
        step();
        const uint32_t slot = next_note();
        if (some) work.copy_down(COMPUTE, notes[slot].address, (const uint8_t*)from + at, some);
        work.record(noted[slot], COMPUTE);
        await(noted[slot], "work");
        if (some) std::memcpy((uint8_t*)to + at, notes[slot].address, some);
    }
}

inline void context::copy(void* to, const void* from, uint64_t bytes) {
    if (bytes == 0 || to == from) return;
    step();
    pace();
    work.copy_within(COMPUTE, to, from, bytes);
}

inline void context::zero(void* to, uint64_t bytes) {
    if (bytes == 0) return;
    pace();
    work.zero(COMPUTE, to, bytes);
}

// A filled slot goes to the device beside the kernels that run, unless they may still use the place.
inline void context::stage_out(uint32_t slot, void* to, uint64_t bytes) {
    step();
    auto found = sizes.upper_bound((uint64_t)to);
    const bool fresh = found != sizes.begin() && (--found)->second.since == computed;
    if (!fresh) {
        work.record(last[COMPUTE], COMPUTE);
        work.follow(UP, last[COMPUTE]);
    }
    work.copy_up(UP, to, staging[slot].address, bytes);
    work.record(staged[slot], UP);
    behind[UP] = true;
}

// A slot is filled from the device after the work so far, beside what follows.
inline void context::stage_in(uint32_t slot, const void* from, uint64_t bytes) {
    join();
    step();
    work.record(last[COMPUTE], COMPUTE);
    work.follow(DOWN, last[COMPUTE]);
    work.copy_down(DOWN, staging[slot].address, from, bytes);
    work.record(staged[slot], DOWN);
    behind[DOWN] = true;
}

// `in` is the stream in whose order the memory comes into being; the kernels' for what only kernels use.
inline void* context::allocate(uint64_t bytes, const char* what, int in) {
    if (bytes > (UINT64_MAX >> 2)) fail(PH_OUT_OF_MEMORY, what);
    const uint64_t size = (bytes < 256 ? 256 : (bytes + 255) & ~UINT64_C(255));
    step();
    for (bool again = false;; again = true) {
        void* address = size <= budget - used ? work.allocate(in, size, what) : nullptr;
        if (address) {
            sizes.emplace((uint64_t)address, allocation{size, computed});
            used += size;
            if (in != COMPUTE) behind[in] = true;
            return address;
        }
        if (again) fail(PH_OUT_OF_MEMORY, what);
        evict();
        // What was freed is there for all streams when the work that it waits for is done.
        synchronize();
    }
}

inline void context::release(void* address) noexcept {
    const auto found = sizes.find((uint64_t)address);
    if (found == sizes.end()) return;
    used -= found->second.bytes;
    sizes.erase(found);
    try {
        join();
        work.release(COMPUTE, address);
    } catch (...) {
        // A device that fails here fails at the next call, too.
    }
}

inline block::block(context& c, uint64_t bytes, const char* what) : owner(&c), address(c.allocate(bytes, what, COMPUTE)) {}
inline block::~block() {
    if (address) owner->release(address);
}

}  // namespace
