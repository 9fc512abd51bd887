// The C interface: every function catches what is thrown and returns a code.
#if !defined(__CUDACC__)
#define PH_NAME(name) parhelion_emulation_##name
#endif

#include "msm.cuh"
#include "ntt.cuh"
#include "poly.cuh"
#include "quotient.cuh"

#if PH_DEVICE_BUILD
using namespace parhelion_cuda;
#else
using namespace parhelion_emulation;
#endif

namespace {

void write_message(const std::string& text, uint8_t* message, size_t room) {
    if (message == nullptr || room == 0) return;
    const size_t len = text.size() < room - 1 ? text.size() : room - 1;
    std::memcpy(message, text.data(), len);
    message[len] = 0;
}

// Runs what may throw. `text` receives the reason.
template <class F> int32_t guarded(std::string* text, F f) noexcept {
    int32_t code = PH_FAILED;
    try {
        try {
            f();
            return PH_OK;
        } catch (const failure& e) {
            code = e.code;
            if (text) *text = e.text;
        } catch (const std::bad_alloc&) {
            code = PH_OUT_OF_MEMORY;
            if (text) *text = "host memory";
        } catch (const std::exception& e) {
            if (text) *text = e.what();
        } catch (...) {
            if (text) *text = "an exception of unknown type";
        }
    } catch (...) {
        // The reason did not fit into memory.
    }
    return code;
}

context& of(void* handle) {
    if (handle == nullptr) fail(PH_INVALID, "no context");
    return *static_cast<context*>(handle);
}

// A call on a context. A failure that is not about memory or arguments may be the first sign of a device that is gone.
template <class F> int32_t call(void* handle, F f) noexcept {
    if (handle == nullptr) return PH_INVALID;
    context& c = *static_cast<context*>(handle);
    if (c.lost) return PH_LOST;
    int32_t code = guarded(&c.error, [&] {
        c.select();
        f(c);
    });
#if PH_DEVICE_BUILD
    if (code == PH_FAILED && guarded(nullptr, [&] { c.synchronize(); }) != PH_OK) code = PH_LOST;
#endif
    if (code == PH_LOST) c.lost = true;
    return code;
}

// A call that computes, or copies in the order of the kernels: after the copies so far.
template <class F> int32_t compute(void* handle, F f) noexcept {
    return call(handle, [&](context& c) {
        c.join();
        c.computed++;
        f(c);
    });
}

#if !PH_DEVICE_BUILD
constexpr uint64_t EMULATED_MEMORY = UINT64_C(1) << 28;
#endif

}  // namespace

extern "C" {

int32_t PH_NAME(device_count)(int32_t* count, uint8_t* message, size_t room) {
    std::string text;
    const int32_t code = guarded(&text, [&] {
#if PH_DEVICE_BUILD
        int found = 0;
        check(cudaGetDeviceCount(&found), "cudaGetDeviceCount");
        *count = found;
#else
        *count = 1;
#endif
    });
    write_message(text, message, room);
    return code;
}

int32_t PH_NAME(device_info)(int32_t device, ph_info* info, uint8_t* message, size_t room) {
    std::string text;
    const int32_t code = guarded(&text, [&] {
        std::memset(info, 0, sizeof *info);
#if PH_DEVICE_BUILD
        cudaDeviceProp properties;
        // Nothing that would open the device.
        check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
        int runtime = 0, driver = 0;
        check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
        check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
        std::snprintf(info->name, sizeof info->name, "%s", properties.name);
        info->total = properties.totalGlobalMem;
        info->major = (uint32_t)properties.major;
        info->minor = (uint32_t)properties.minor;
        info->processors = (uint32_t)properties.multiProcessorCount;
        info->runtime = (uint32_t)runtime;
        info->driver = (uint32_t)driver;
#else
        if (device != 0) fail(PH_INVALID, "no such device");
        std::snprintf(info->name, sizeof info->name, "emulated kernels");
        info->total = EMULATED_MEMORY;
        info->processors = 1;
        info->simulated = 1;
#endif
    });
    write_message(text, message, room);
    return code;
}

int32_t PH_NAME(open)(int32_t device, uint64_t budget, uint64_t limit, void** out, uint8_t* message, size_t room) {
    std::string text;
    const int32_t code = guarded(&text, [&] {
        std::unique_ptr<context> c(new context);
        c->device = device;
        c->cache = std::make_shared<cached>();
        c->select();
#if PH_DEVICE_BUILD
        size_t free_bytes = 0, total_bytes = 0;
        check(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
        const uint64_t most = free_bytes / 10 * 9;
        int processors = 1;
        check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
        c->processors = (uint32_t)processors;
        // Freed memory stays with the process, so that allocation costs nothing after the first proof.
        cudaMemPool_t pool;
        check(cudaDeviceGetDefaultMemPool(&pool, device), "cudaDeviceGetDefaultMemPool");
        uint64_t threshold = UINT64_MAX;
        check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &threshold), "cudaMemPoolSetAttribute");
#else
        if (device != 0) fail(PH_INVALID, "no such device");
        const uint64_t most = EMULATED_MEMORY;
#endif
        c->open();
        c->limit = std::chrono::milliseconds(limit);
        c->budget = budget < most ? budget : most;
        *out = c.release();
    });
    write_message(text, message, room);
    return code;
}

int32_t PH_NAME(close)(void* handle) {
    if (handle == nullptr) return PH_INVALID;
    return guarded(nullptr, [&] {
        context* c = static_cast<context*>(handle);
        // What a device that does not answer may still use is never given back.
        if (c->lost) return;
        const std::unique_ptr<context> owner(c);
        c->select();
        c->close();
    });
}

int32_t PH_NAME(message)(void* handle, uint8_t* message, size_t room) {
    return guarded(nullptr, [&] { write_message(of(handle).error, message, room); });
}

int32_t PH_NAME(memory)(void* handle, uint64_t* total, uint64_t* free) {
    return call(handle, [&](context& c) {
        *total = c.budget;
        *free = c.budget - c.used;
    });
}

int32_t PH_NAME(tune)(void* handle, uint32_t radix) {
    return call(handle, [&](context& c) {
        if (radix < 1 || radix > 4) fail(PH_INVALID, "the radix of a pass is 2^1 to 2^4");
        c.radix = radix;
    });
}

int32_t PH_NAME(inject)(void* handle, uint64_t after, int32_t code) {
    return call(handle, [&](context& c) {
        c.fault_after = after;
        c.fault_code = code;
    });
}

int32_t PH_NAME(alloc)(void* handle, uint64_t bytes, uint64_t* address) {
    return call(handle, [&](context& c) { *address = (uint64_t)c.allocate(bytes, "a buffer", UP); });
}

int32_t PH_NAME(release)(void* handle, uint64_t address) {
    return call(handle, [&](context& c) { c.release((void*)address); });
}

int32_t PH_NAME(upload)(void* handle, uint64_t to, const uint8_t* from, uint64_t bytes) {
    return compute(handle, [&](context& c) { c.upload((void*)to, from, bytes); });
}

int32_t PH_NAME(download)(void* handle, uint8_t* to, uint64_t from, uint64_t bytes) {
    return compute(handle, [&](context& c) { c.download(to, (const void*)from, bytes); });
}

int32_t PH_NAME(stage)(void* handle, uint32_t slot, uint8_t** address) {
    return call(handle, [&](context& c) {
        if (slot >= PH_STAGING_SLOTS) fail(PH_INVALID, "no such slot");
        c.await(c.staged[slot], "a copy");
        *address = (uint8_t*)c.staging[slot].address;
    });
}

int32_t PH_NAME(stage_out)(void* handle, uint32_t slot, uint64_t to, uint64_t bytes) {
    return call(handle, [&](context& c) {
        if (slot >= PH_STAGING_SLOTS || bytes > PH_STAGING_BYTES) fail(PH_INVALID, "no such slot");
        c.stage_out(slot, (void*)to, bytes);
    });
}

int32_t PH_NAME(stage_in)(void* handle, uint32_t slot, uint64_t from, uint64_t bytes) {
    return call(handle, [&](context& c) {
        if (slot >= PH_STAGING_SLOTS || bytes > PH_STAGING_BYTES) fail(PH_INVALID, "no such slot");
        c.stage_in(slot, (const void*)from, bytes);
    });
}

int32_t PH_NAME(ntt)(void* handle, const ph_transform* plan, const ph_column* from, const uint64_t* to, uint32_t batch) {
    return compute(handle, [&](context& c) { ntt(c, *plan, from, to, batch); });
}

int32_t PH_NAME(multiples)(void* handle, const ph_bases* bases) {
    return compute(handle, [&](context& c) { multiples(c, *bases); });
}

int32_t PH_NAME(msm)(void* handle, const ph_bases* bases, const ph_column* columns, uint32_t batch, ph_limbs* out) {
    return compute(handle, [&](context& c) { msm(c, *bases, columns, batch, out); });
}

int32_t PH_NAME(evaluate)(void* handle, const ph_program* program, const ph_limbs* uniforms, uint32_t uniform_count, const uint64_t* columns,
                          uint32_t column_count, const uint64_t* out, uint32_t log_n, const ph_limbs* omega, const ph_limbs* shift) {
    return compute(handle, [&](context& c) {
        evaluate(c, *program, uniforms, uniform_count, columns, column_count, out, log_n, *omega, *shift);
    });
}

int32_t PH_NAME(combine)(void* handle, const ph_term* terms, uint32_t count, uint64_t out, uint64_t len) {
    return compute(handle, [&](context& c) { combine(c, terms, count, (fr*)out, len); });
}

int32_t PH_NAME(horner)(void* handle, const ph_query* queries, uint32_t count, ph_limbs* out) {
    return compute(handle, [&](context& c) { horner(c, queries, count, out); });
}

int32_t PH_NAME(divide)(void* handle, uint64_t poly, uint64_t len, const ph_limbs* root) {
    return compute(handle, [&](context& c) { divide(c, (fr*)poly, len, element_of(*root)); });
}

int32_t PH_NAME(invert)(void* handle, uint64_t values, uint64_t len) {
    return compute(handle, [&](context& c) { invert(c, (fr*)values, len); });
}

int32_t PH_NAME(multiply)(void* handle, uint64_t a, uint64_t b, uint64_t len) {
    return compute(handle, [&](context& c) { c.launch("product", multiply_kernel, len, (fr*)a, (const fr*)b, len); });
}

int32_t PH_NAME(accumulate)(void* handle, uint64_t values, uint64_t len, const ph_limbs* first, ph_limbs* total) {
    return compute(handle, [&](context& c) { running_product(c, (fr*)values, len, element_of(*first), total); });
}

}  // extern "C"
