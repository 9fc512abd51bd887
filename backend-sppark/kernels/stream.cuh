// Streams of work of one device, marks in them, and waiting with a limit.
//
// Three streams: kernels, copies to the device, copies to the host. A stream works in order; one waits for another only where it is told to,
// by a mark. The host never blocks in the driver: it asks whether a mark has been passed, until the limit, after which the device counts as
// hanging (PH_LOST). For the same reason pageable memory is never given to the driver, and no more launches are pending than its queue takes.
//
// The emulation keeps the streams as lists of what is still to do. Kernels run as late as possible; copies to the device, too, or, every other time, as
// early as possible; so what two streams do to one place without a mark between them comes out wrong in tests.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "api.h"

#if defined(__CUDACC__)
#define PH_DEVICE_BUILD 1
#include <cuda_runtime.h>
#else
#define PH_DEVICE_BUILD 0
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

enum stream : int { COMPUTE = 0, UP = 1, DOWN = 2 };
constexpr int STREAMS = 3;
constexpr int NOTES = 16;
constexpr uint64_t NOTE_BYTES = 256 << 10;

#if PH_DEVICE_BUILD

inline void check(cudaError_t code, const char* what) {
    if (code == cudaSuccess) return;
    (void)cudaGetLastError();
    const bool memory = code == cudaErrorMemoryAllocation;
    fail(memory ? PH_OUT_OF_MEMORY : PH_FAILED, std::string(what) + ": " + cudaGetErrorString(code));
}

struct mark {
    cudaEvent_t event = nullptr;
};

// Memory of the host that the device copies from and to by itself.
struct page_locked {
    void* address = nullptr;
};

struct streams {
    cudaStream_t handle[STREAMS] = {};

    void open() {
        for (auto& h : handle) check(cudaStreamCreateWithFlags(&h, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    }
    void close() {
        for (auto& h : handle)
            if (h) (void)cudaStreamDestroy(h);
    }
    void make(mark& m) { check(cudaEventCreateWithFlags(&m.event, cudaEventDisableTiming), "cudaEventCreateWithFlags"); }
    void drop(mark& m) {
        if (m.event) (void)cudaEventDestroy(m.event);
    }
    void make(page_locked& m, uint64_t bytes) { check(cudaHostAlloc(&m.address, bytes, cudaHostAllocDefault), "cudaHostAlloc"); }
    void drop(page_locked& m) {
        if (m.address) (void)cudaFreeHost(m.address);
    }
    void record(mark& m, int in) { check(cudaEventRecord(m.event, handle[in]), "cudaEventRecord"); }
    void follow(int in, const mark& m) { check(cudaStreamWaitEvent(handle[in], m.event, 0), "cudaStreamWaitEvent"); }
    bool passed(const mark& m) {
        const cudaError_t code = cudaEventQuery(m.event);
        if (code == cudaErrorNotReady) {
            (void)cudaGetLastError();
            return false;
        }
        check(code, "cudaEventQuery");
        return true;
    }
    void copy_up(int in, void* to, const void* from, uint64_t bytes) {
        check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, handle[in]), "copy to the device");
    }
    void copy_down(int in, void* to, const void* from, uint64_t bytes) {
        check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, handle[in]), "copy to the host");
    }
    void copy_within(int in, void* to, const void* from, uint64_t bytes) {
        check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, handle[in]), "copy on the device");
    }
    void zero(int in, void* to, uint64_t bytes) { check(cudaMemsetAsync(to, 0, bytes, handle[in]), "cudaMemsetAsync"); }
    void* allocate(int in, uint64_t bytes, const char* what) {
        void* address = nullptr;
        const cudaError_t code = cudaMallocAsync(&address, bytes, handle[in]);
        if (code == cudaSuccess) return address;
        (void)cudaGetLastError();
        if (code != cudaErrorMemoryAllocation) fail(PH_FAILED, std::string(what) + ": cudaMallocAsync: " + cudaGetErrorString(code));
        return nullptr;
    }
    void release(int in, void* address) { (void)cudaFreeAsync(address, handle[in]); }
};

#else

struct mark {
    int in = COMPUTE;
    uint64_t at = 0;
};

struct page_locked {
    std::unique_ptr<uint8_t[]> memory;
    void* address = nullptr;
};

struct streams {
    struct list {
        std::deque<std::function<void()>> work;
        uint64_t begun = 0, total = 0;
    };
    list lists[STREAMS];
    bool hangs = false, early = false;
    uint64_t asked = 0;

    void open() {}
    void close() {
        for (int in = 0; in < STREAMS && !hangs; in++) run(in, lists[in].total);
    }
    // Does what is before a place in a stream, and what that has to wait for.
    void run(int in, uint64_t at) {
        list& l = lists[in];
        while (l.begun < at) {
            const std::function<void()> next = std::move(l.work.front());
            l.work.pop_front();
            next();
            l.begun++;
        }
    }
    void submit(int in, std::function<void()> work) {
        lists[in].work.push_back(std::move(work));
        lists[in].total++;
        if (in == UP && early && !hangs) run(UP, lists[UP].total);
    }
    void make(mark&) {}
    void drop(mark&) {}
    void make(page_locked& m, uint64_t bytes) {
        m.memory.reset(new uint8_t[bytes]);
        m.address = m.memory.get();
    }
    void drop(page_locked&) {}
    void record(mark& m, int in) { m = mark{in, lists[in].total}; }
    void follow(int in, const mark& m) {
        const mark before = m;
        submit(in, [this, before] { run(before.in, before.at); });
    }
    bool passed(const mark& m) {
        if (lists[m.in].begun >= m.at) return true;
        // A device takes its time: nobody is answered at once.
        if (hangs || ++asked % 2) return false;
        run(m.in, m.at);
        early = !early;
        return true;
    }
    void copy_up(int in, void* to, const void* from, uint64_t bytes) { copy_within(in, to, from, bytes); }
    void copy_down(int in, void* to, const void* from, uint64_t bytes) { copy_within(in, to, from, bytes); }
    void copy_within(int in, void* to, const void* from, uint64_t bytes) {
        submit(in, [=] { std::memmove(to, from, bytes); });
    }
    void zero(int in, void* to, uint64_t bytes) {
        submit(in, [=] { std::memset(to, 0, bytes); });
    }
    void* allocate(int, uint64_t bytes, const char*) {
        void* address = std::aligned_alloc(256, bytes);
        // Fresh memory of a device holds anything.
        if (address) std::memset(address, 0x5a, bytes < (UINT64_C(1) << 22) ? bytes : (UINT64_C(1) << 22));
        return address;
    }
    void release(int in, void* address) {
        submit(in, [=] { std::free(address); });
    }
};

#endif

}  // namespace
