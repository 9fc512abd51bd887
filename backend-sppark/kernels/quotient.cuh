// Evaluation of straight-line programs: an interpreter, one row per thread.
//
// A step is five words: operation, destination, and three operands; an operand is a kind in the top two bits and an index. All threads
// of a warp are at the same step, so fetching and decoding are uniform. Registers of a row are local memory of the thread, interleaved by
// the hardware; programs with more than fit take theirs from a workspace that is interleaved in the same way.
#pragma once

#include "field.cuh"

#if PH_DEVICE_BUILD
namespace parhelion_cuda {
#else
namespace parhelion_emulation {
#endif

enum operation : uint32_t { ADD, SUB, MUL, MULADD, SQUARE, DOUBLE, NEGATE };
enum kind : uint32_t { UNIFORM, REGISTER, COLUMN, POINT };

struct step {
    uint32_t operation, target, a, b, c;
};
struct access {
    uint32_t column, rotation;
};

struct evaluation {
    const step* steps;
    const access* accesses;
    const uint32_t* results;
    const fr* uniforms;
    const fr* const* columns;
    fr* const* out;
    fr* workspace;
    uint64_t step_count;
    uint32_t result_count, log_n, uses_point, padding;
    fr omega, shift;
};

struct own_registers {
    static constexpr uint32_t SOME = 24;
    static constexpr uint32_t MANY = 64;
};

// Registers in the workspace: number `count` for each of `stride` threads.
struct shared_out {
    fr* place;
    uint64_t stride;
    PH_DEV fr get(uint32_t i) const { return place[i * stride]; }
    PH_DEV void set(uint32_t i, const fr& value) { place[i * stride] = value; }
};

template <uint32_t N> struct own {
    fr place[N];
    PH_DEV fr get(uint32_t i) const { return place[i]; }
    PH_DEV void set(uint32_t i, const fr& value) { place[i] = value; }
};

template <class Registers> struct row {
    const evaluation& e;
    Registers& registers;
    uint64_t i;
    fr point;

    PH_DEV fr read(uint32_t operand) const {
        const uint32_t index = operand & 0x3fffffff;
        switch (operand >> 30) {
            case UNIFORM: return e.uniforms[index];
            case REGISTER: return registers.get(index);
            case COLUMN: {
                const access a = e.accesses[index];
                return e.columns[a.column][(i + a.rotation) & ((UINT64_C(1) << e.log_n) - 1)];
            }
            default: return point;
        }
    }

    PH_DEV void run() {
        PH_LOOP for (uint64_t at = 0; at < e.step_count; at++) {
            const step s = e.steps[at];
            const fr a = read(s.a);
            fr value;
            switch (s.operation) {
                case ADD: value = a + read(s.b); break;
                case SUB: value = a - read(s.b); break;
                case MUL: value = a * read(s.b); break;
                case MULADD: value = a * read(s.b) + read(s.c); break;
                case SQUARE: value = a.square(); break;
                case DOUBLE: value = a + a; break;
                default: value = -a; break;
            }
            registers.set(s.target, value);
        }
        PH_LOOP for (uint32_t r = 0; r < e.result_count; r++) e.out[r][i] = read(e.results[r]);
    }
};

template <class Registers> PH_DEV void run_rows(const evaluation& e, Registers& registers, uint64_t threads) {
    const uint64_t n = UINT64_C(1) << e.log_n;
    fr point = fr::nil(), stride = fr::nil();
    if (e.uses_point) {
        point = e.shift * power(e.omega, thread_index());
        stride = power(e.omega, threads);
    }
    for (uint64_t i = thread_index(); i < n; i += threads) {
        row<Registers> r{e, registers, i, point};
        r.run();
        if (e.uses_point) point = point * stride;
    }
}

template <uint32_t N> PH_KERNEL evaluate_kernel(evaluation e) {
    own<N> registers;
    run_rows(e, registers, thread_count());
}

PH_KERNEL evaluate_wide_kernel(evaluation e, uint64_t threads) {
    // A launch is rounded up to whole blocks; only `threads` have a place in the workspace.
    if (thread_index() >= threads) return;
    const uint64_t stride = threads < thread_count() ? threads : thread_count();
    shared_out registers{e.workspace + thread_index(), stride};
    run_rows(e, registers, stride);
}

inline void evaluate(context& c, const ph_program& program, const ph_limbs* uniforms, uint32_t uniform_count, const uint64_t* columns,
                     uint32_t column_count, const uint64_t* out, uint32_t log_n, const ph_limbs& omega, const ph_limbs& shift) {
    if (log_n > 30) fail(PH_INVALID, "log_n is above 30");
    const uint64_t n = UINT64_C(1) << log_n;
    const uint64_t uniform_bytes = (uint64_t)uniform_count * sizeof(fr);
    const uint64_t tables = uniform_bytes + ((uint64_t)column_count + program.result_count) * sizeof(uint64_t);
    block memory(c, tables, "operands of a program");
    std::vector<uint8_t> host(tables);
    if (uniform_bytes) std::memcpy(host.data(), uniforms, uniform_bytes);
    if (column_count) std::memcpy(host.data() + uniform_bytes, columns, column_count * sizeof(uint64_t));
    if (program.result_count)
        std::memcpy(host.data() + uniform_bytes + column_count * sizeof(uint64_t), out, program.result_count * sizeof(uint64_t));
    c.upload(memory.address, host.data(), tables);

    evaluation e;
    std::memset((void*)&e, 0, sizeof e);
    e.steps = (const step*)program.code;
    e.accesses = (const access*)program.accesses;
    e.results = (const uint32_t*)program.results;
    e.uniforms = memory.as<fr>();
    e.columns = (const fr* const*)(memory.as<uint8_t>() + uniform_bytes);
    e.out = (fr* const*)(memory.as<uint8_t>() + uniform_bytes + column_count * sizeof(uint64_t));
    e.step_count = program.steps;
    e.result_count = program.result_count;
    e.log_n = log_n;
    e.uses_point = program.uses_point;
    std::memcpy((void*)&e.omega, &omega, sizeof(fr));
    std::memcpy((void*)&e.shift, &shift, sizeof(fr));
    if (program.registers <= own_registers::SOME) {
        c.launch("program", evaluate_kernel<own_registers::SOME>, n, e);
    } else if (program.registers <= own_registers::MANY) {
        c.launch("program", evaluate_kernel<own_registers::MANY>, n, e);
    } else {
        // As many threads as the processors hold at a time.
        uint64_t threads = (uint64_t)c.processors * 1024;
        threads = threads < n ? threads : n;
        block workspace(c, threads * program.registers * sizeof(fr), "registers of a program");
        e.workspace = workspace.as<fr>();
        c.launch("program", evaluate_wide_kernel, threads, e, threads);
    }
}

}  // namespace
