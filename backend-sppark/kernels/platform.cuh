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
#include <memory>
#include <new>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "api.h"

#if defined(__CUDACC__)
#define PH_DEVICE_BUILD 1
#include <cuda_runtime.h>
#define PH_HD __host__ __device__ __forceinline__
#define PH_DEV __device__ __forceinline__
#define PH_KERNEL static __global__ __launch_bounds__(128) void
#else
#define PH_DEVICE_BUILD 0
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

// Names differ between the two builds, so that both can be linked into one program.
#if PH_DEVICE_BUILD
namespace parhelion_cuda {
#else
namespace parhelion_emulation {
#endif

struct failure {
    int32_t code;
    std::string text;
};

[[noreturn]] inline void fail(int32_t code, const std::string& text) { throw failure{code, text}; }

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

struct context {
    int device = 0;
    uint64_t budget = 0, used = 0, launches = 0;
    uint64_t fault_after = 0;
    int32_t fault_code = 0;
    uint32_t radix = 3, processors = 1;
    std::unordered_map<void*, uint64_t> sizes;
    std::shared_ptr<cached> cache;
    std::string error;
#if PH_DEVICE_BUILD
    cudaStream_t stream = nullptr;
    void* staging[PH_STAGING_SLOTS] = {};
    cudaEvent_t staged[PH_STAGING_SLOTS] = {};
#else
    std::vector<uint8_t> staging[PH_STAGING_SLOTS];
#endif

    void evict();
    void* allocate(uint64_t bytes, const char* what);
    void release(void* address) noexcept;
    void upload(void* to, const void* from, uint64_t bytes);
    void download(void* to, const void* from, uint64_t bytes);
    void copy(void* to, const void* from, uint64_t bytes);
    void zero(void* to, uint64_t bytes);
    void synchronize();
    void select();

    // What tests inject: the n-th step from now fails.
    void step() {
        launches++;
        if (fault_after && --fault_after == 0) fail(fault_code, "injected");
    }

    template <class... P, class... A> void launch(const char* what, void (*kernel)(P...), uint64_t threads, A... args) {
        if (threads == 0) return;
        step();
#if PH_DEVICE_BUILD
        const uint64_t blocks = (threads + 127) / 128;
        kernel<<<(uint32_t)(blocks < (1u << 22) ? blocks : (1u << 22)), 128, 0, stream>>>(args...);
        const cudaError_t code = cudaGetLastError();
        if (code != cudaSuccess) fail(PH_FAILED, std::string(what) + ": " + cudaGetErrorString(code));
#else
        (void)what;
        // Few enough that strides happen, and no power of two.
        const uint64_t count = threads < 2000 ? threads : 2000 + threads % 97;
        emulated_count = count;
        for (uint64_t i = 0; i < count; i++) {
            emulated_index = launches % 2 ? count - 1 - i : i;
            kernel(args...);
        }
#endif
    }
};

#if PH_DEVICE_BUILD

inline void check(cudaError_t code, const char* what) {
    if (code == cudaSuccess) return;
    (void)cudaGetLastError();
    const bool memory = code == cudaErrorMemoryAllocation;
    fail(memory ? PH_OUT_OF_MEMORY : PH_FAILED, std::string(what) + ": " + cudaGetErrorString(code));
}

inline void context::select() { check(cudaSetDevice(device), "cudaSetDevice"); }
inline void context::synchronize() { check(cudaStreamSynchronize(stream), "cudaStreamSynchronize"); }
inline void context::upload(void* to, const void* from, uint64_t bytes) {
    if (bytes == 0) return;
    step();
    // From pageable memory, the source may be reused when the call returns.
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream), "copy to the device");
}
inline void context::download(void* to, const void* from, uint64_t bytes) {
    step();
    if (bytes) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream), "copy to the host");
    synchronize();
}
inline void context::copy(void* to, const void* from, uint64_t bytes) {
    if (bytes == 0 || to == from) return;
    step();
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream), "copy on the device");
}
inline void context::zero(void* to, uint64_t bytes) {
    if (bytes) check(cudaMemsetAsync(to, 0, bytes, stream), "cudaMemsetAsync");
}

#else

inline void context::select() {}
inline void context::synchronize() {}
inline void context::upload(void* to, const void* from, uint64_t bytes) {
    if (bytes == 0) return;
    step();
    std::memcpy(to, from, bytes);
}
inline void context::download(void* to, const void* from, uint64_t bytes) {
    step();
    if (bytes) std::memcpy(to, from, bytes);
}
inline void context::copy(void* to, const void* from, uint64_t bytes) {
    if (bytes == 0 || to == from) return;
    step();
    std::memmove(to, from, bytes);
}
inline void context::zero(void* to, uint64_t bytes) {
    if (bytes) std::memset(to, 0, bytes);
}

#endif

inline void* context::allocate(uint64_t bytes, const char* what) {
    if (bytes > (UINT64_MAX >> 2)) fail(PH_OUT_OF_MEMORY, what);
    const uint64_t size = (bytes < 256 ? 256 : (bytes + 255) & ~UINT64_C(255));
    step();
    for (bool again = false;; again = true) {
        void* address = nullptr;
        if (size <= budget - used) {
#if PH_DEVICE_BUILD
            const cudaError_t code = cudaMallocAsync(&address, size, stream);
            if (code != cudaSuccess) {
                (void)cudaGetLastError();
                if (code != cudaErrorMemoryAllocation)
                    fail(PH_FAILED, std::string(what) + ": cudaMallocAsync: " + cudaGetErrorString(code));
                address = nullptr;
            }
#else
            address = std::aligned_alloc(256, size);
            if (address) std::memset(address, 0x5a, size < (UINT64_C(1) << 22) ? size : (UINT64_C(1) << 22));
#endif
        }
        if (address) {
            sizes.emplace(address, size);
            used += size;
            return address;
        }
        if (again) fail(PH_OUT_OF_MEMORY, what);
        evict();
    }
}

inline void context::release(void* address) noexcept {
    const auto found = sizes.find(address);
    if (found == sizes.end()) return;
    used -= found->second;
    sizes.erase(found);
#if PH_DEVICE_BUILD
    (void)cudaFreeAsync(address, stream);
#else
    std::free(address);
#endif
}

inline block::block(context& c, uint64_t bytes, const char* what) : owner(&c), address(c.allocate(bytes, what)) {}
inline block::~block() {
    if (address) owner->release(address);
}

}  // namespace
