// What the library offers to Rust. Every function returns a code, and leaves words in the context (or in `message`) when it is not PH_OK. No
// exception leaves. Calls on one context are never concurrent: the caller holds a lock. Addresses of device memory are integers; lengths are
// in elements; field elements are Montgomery limbs, points as in `PH_*_BYTES`.
//
// tests/signatures.rs compares this file with src/ffi.rs and with the symbols of the library.
#ifndef PARHELION_SPPARK_API_H
#define PARHELION_SPPARK_API_H

#include <stddef.h>
#include <stdint.h>

#define PH_OK 0
#define PH_OUT_OF_MEMORY 1
#define PH_LOST 2
#define PH_INVALID 3
#define PH_FAILED 4
#define PH_HANGS 5

#define PH_SCALAR_BYTES 32
#define PH_AFFINE_BYTES 64
#define PH_POINT_BYTES 128
#define PH_STAGING_SLOTS 8
#define PH_STAGING_BYTES 8388608

typedef struct ph_limbs {
    uint64_t limb[4];
} ph_limbs;

typedef struct ph_info {
    char name[256];
    uint64_t total;
    uint32_t major;
    uint32_t minor;
    uint32_t processors;
    uint32_t runtime;
    uint32_t driver;
    uint32_t simulated;
} ph_info;

typedef struct ph_column {
    uint64_t address;
    uint64_t len;
} ph_column;

typedef struct ph_bases {
    uint64_t address;
    uint64_t len;
    uint32_t tables;
    uint32_t shift;
} ph_bases;

typedef struct ph_transform {
    ph_limbs root;
    ph_limbs shift;
    ph_limbs shift_inverse;
    ph_limbs size_inverse;
    uint32_t log_n;
    uint32_t inverse;
    uint32_t coset;
    uint32_t root_log;
} ph_transform;

typedef struct ph_program {
    uint64_t code;
    uint64_t steps;
    uint64_t accesses;
    uint32_t access_count;
    uint32_t registers;
    uint32_t uses_point;
    uint32_t result_count;
    uint64_t results;
} ph_program;

typedef struct ph_query {
    uint64_t address;
    uint64_t len;
    ph_limbs x;
} ph_query;

typedef struct ph_term {
    uint64_t address;
    uint64_t len;
    ph_limbs factor;
} ph_term;

#ifndef PH_NAME
#define PH_NAME(name) parhelion_cuda_##name
#endif

#ifdef __cplusplus
extern "C" {
#endif

// clang-format off
int32_t PH_NAME(device_count)(int32_t* count, uint8_t* message, size_t room);
int32_t PH_NAME(device_info)(int32_t device, ph_info* info, uint8_t* message, size_t room);
int32_t PH_NAME(open)(int32_t device, uint64_t budget, uint64_t limit, void** context, uint8_t* message, size_t room);
int32_t PH_NAME(close)(void* context);
int32_t PH_NAME(message)(void* context, uint8_t* message, size_t room);
int32_t PH_NAME(memory)(void* context, uint64_t* total, uint64_t* free);
int32_t PH_NAME(tune)(void* context, uint32_t radix);
int32_t PH_NAME(inject)(void* context, uint64_t after, int32_t code);
int32_t PH_NAME(alloc)(void* context, uint64_t bytes, uint64_t* address);
int32_t PH_NAME(release)(void* context, uint64_t address);
int32_t PH_NAME(upload)(void* context, uint64_t to, const uint8_t* from, uint64_t bytes);
int32_t PH_NAME(download)(void* context, uint8_t* to, uint64_t from, uint64_t bytes);
int32_t PH_NAME(stage)(void* context, uint32_t slot, uint8_t** address);
int32_t PH_NAME(stage_out)(void* context, uint32_t slot, uint64_t to, uint64_t bytes);
int32_t PH_NAME(stage_in)(void* context, uint32_t slot, uint64_t from, uint64_t bytes);
int32_t PH_NAME(ntt)(void* context, const ph_transform* plan, const ph_column* from, const uint64_t* to, uint32_t batch);
int32_t PH_NAME(multiples)(void* context, const ph_bases* bases);
int32_t PH_NAME(msm)(void* context, const ph_bases* bases, const ph_column* columns, uint32_t batch, ph_limbs* out);
int32_t PH_NAME(evaluate)(void* context, const ph_program* program, const ph_limbs* uniforms, uint32_t uniform_count, const uint64_t* columns, uint32_t column_count, const uint64_t* out, uint32_t log_n, const ph_limbs* omega, const ph_limbs* shift);
int32_t PH_NAME(combine)(void* context, const ph_term* terms, uint32_t count, uint64_t out, uint64_t len);
int32_t PH_NAME(horner)(void* context, const ph_query* queries, uint32_t count, ph_limbs* out);
int32_t PH_NAME(divide)(void* context, uint64_t poly, uint64_t len, const ph_limbs* root);
int32_t PH_NAME(invert)(void* context, uint64_t values, uint64_t len);
int32_t PH_NAME(multiply)(void* context, uint64_t a, uint64_t b, uint64_t len);
int32_t PH_NAME(accumulate)(void* context, uint64_t values, uint64_t len, const ph_limbs* first, ph_limbs* total);
// clang-format on

#ifdef __cplusplus
}
#endif

#endif
