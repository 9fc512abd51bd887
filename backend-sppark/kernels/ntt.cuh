// Transforms: Stockham's autosort form in passes of radix up to 16, each thread one butterfly in registers.
//
// Natural order in and out, without a bit reversal. With p the product of the radices before, thread i of a column of n elements takes
// in[i + r·n/R], multiplies by ω_(Rp)^(r·(i mod p)), transforms R values, and writes to (i − i mod p)·R + i mod p + r·p. (D. H. Bailey, "FFTs in
// external or hierarchical memory", 1990; N. K. Govindaraju et al., "High performance discrete Fourier transforms on graphics processors",
// 2008.)
//
// One table of powers of the longest root so far serves all shorter transforms, by strides, and inverse ones, by negation. ζ and other
// shifts are factors of the first pass's input (of the last one's output, inversely, with 1/n): the power of index i is the product of two
// entries of tables of √n, small enough for the caches.
#pragma once

#include "field.cuh"

#if PH_DEVICE_BUILD
namespace parhelion_cuda {
#else
namespace parhelion_emulation {
#endif

constexpr uint32_t LANES = 40;
constexpr uint32_t WIDEST = 4;

// Tables that stay on the device until memory runs out.
struct cached {
    struct powers {
        fr base, factor;
        uint32_t log_low = 0, log_high = 0;
        block memory;
    };
    std::shared_ptr<block> roots;
    uint32_t root_log = 0;
    std::list<std::shared_ptr<powers>> shifts;
};

inline void context::evict() {
    if (cache) {
        cache->roots.reset();
        cache->root_log = 0;
        cache->shifts.clear();
    }
}

inline bool same(const fr& a, const fr& b) { return std::memcmp((const void*)&a, (const void*)&b, sizeof(fr)) == 0; }

// factor · base^i for i < 2^log_n, in two tables.
inline std::shared_ptr<cached::powers> powers_of(context& c, const fr& base, const fr& factor, uint32_t log_n) {
    const uint32_t low = (log_n + 1) / 2, high = log_n - low;
    for (auto at = c.cache->shifts.begin(); at != c.cache->shifts.end(); ++at) {
        const auto found = *at;
        if (found->log_low == low && found->log_high == high && same(found->base, base) && same(found->factor, factor)) {
            c.cache->shifts.erase(at);
            c.cache->shifts.push_front(found);
            return found;
        }
    }
    std::vector<fr> table((UINT64_C(1) << low) + (UINT64_C(1) << high));
    fr value = factor;
    for (uint64_t i = 0; i < UINT64_C(1) << low; i++, value = value * base) table[i] = value;
    const fr step = power(base, UINT64_C(1) << low);
    value = fr::unit();
    for (uint64_t i = 0; i < UINT64_C(1) << high; i++, value = value * step) table[(UINT64_C(1) << low) + i] = value;
    auto made = std::make_shared<cached::powers>();
    made->base = base;
    made->factor = factor;
    made->log_low = low;
    made->log_high = high;
    made->memory = block(c, table.size() * sizeof(fr), "powers of a shift");
    c.upload(made->memory.address, table.data(), table.size() * sizeof(fr));
    if (c.cache->shifts.size() >= 64) c.cache->shifts.pop_back();
    c.cache->shifts.push_front(made);
    return made;
}

struct shift_table {
    const fr* low;
    const fr* high;
    uint32_t log_low;
    PH_DEV fr at(uint64_t i) const { return low[i & ((UINT64_C(1) << log_low) - 1)] * high[i >> log_low]; }
};

PH_KERNEL roots_kernel(fr* roots, uint64_t n, shift_table t) {
    for (uint64_t i = thread_index(); i < n; i += thread_count()) roots[i] = t.at(i);
}

struct columns {
    const fr* from[LANES];
    fr* to[LANES];
    uint64_t len[LANES];
};

enum scaling : uint32_t { NONE, BY_TABLE, BY_CONSTANT };

struct pass {
    const fr* roots;
    shift_table shift;
    uint32_t root_log, log_n, log_p, inverse, before, after;
    fr constant;

    // The root of order 2^root_log to the power e.
    PH_DEV fr root(uint32_t e) const {
        const uint32_t n = 1u << root_log, half = n >> 1;
        if (inverse) e = (n - e) & (n - 1);
        return e < half ? roots[e] : fr(-roots[e - half]);
    }
};

template <uint32_t R> PH_KERNEL ntt_kernel(columns cols, uint32_t batch, pass s) {
    const uint32_t log_t = s.log_n - R, width = 1u << R;
    for (uint64_t i = thread_index(); i < (uint64_t)batch << log_t; i += thread_count()) {
        const uint32_t column = (uint32_t)(i >> log_t);
        const uint32_t j = (uint32_t)i & ((1u << log_t) - 1);
        const uint32_t k = j & ((1u << s.log_p) - 1);
        const fr* from = cols.from[column];
        fr* to = cols.to[column];
        const uint64_t len = cols.len[column];
        fr x[1u << R];
        PH_UNROLL for (uint32_t r = 0; r < width; r++) {
            const uint64_t at = j + ((uint64_t)r << log_t);
            x[r] = at < len ? from[at] : fr(fr::nil());
            if (s.before == BY_TABLE) x[r] = x[r] * s.shift.at(at);
            if (r != 0 && s.log_p != 0) x[r] = x[r] * s.root((r * k) << (s.root_log - R - s.log_p));
        }
        PH_UNROLL for (uint32_t level = 0; level < R; level++) {
            const uint32_t h = R - 1 - level, half = 1u << h;
            PH_UNROLL for (uint32_t m = 0; m < width / 2; m++) {
                const uint32_t e = m & (half - 1), a = ((m >> h) << (h + 1)) | e, b = a + half;
                const fr u = x[a], v = x[b];
                x[a] = u + v;
                x[b] = u - v;
                if (e != 0) x[b] = x[b] * s.root(e << (s.root_log - h - 1));
            }
        }
        const uint64_t start = ((uint64_t)(j - k) << R) + k;
        PH_UNROLL for (uint32_t r = 0; r < width; r++) {
            uint32_t reversed = 0;
            PH_UNROLL for (uint32_t bit = 0; bit < R; bit++) reversed |= ((r >> bit) & 1) << (R - 1 - bit);
            const uint64_t at = start + ((uint64_t)r << s.log_p);
            fr value = x[reversed];
            if (s.after == BY_TABLE) value = value * s.shift.at(at);
            if (s.after == BY_CONSTANT) value = value * s.constant;
            to[at] = value;
        }
    }
}

inline fr element_of(const ph_limbs& limbs) {
    fr value;
    std::memcpy((void*)&value, &limbs, sizeof value);
    return value;
}

// Powers of the root of order 2^log, at least, the first half of them.
inline std::shared_ptr<block> roots_of(context& c, const ph_transform& plan) {
    const uint32_t least = plan.log_n < 4 ? 4 : plan.log_n;
    if (c.cache->roots && c.cache->root_log >= least) return c.cache->roots;
    if (plan.root_log < least) fail(PH_INVALID, "the root's order is below the length");
    fr root = element_of(plan.root);
    for (uint32_t i = least; i < plan.root_log; i++) root = root.square();
    c.cache->roots.reset();
    const auto powers = powers_of(c, root, fr::unit(), least - 1);
    const uint64_t half = UINT64_C(1) << (least - 1);
    auto made = std::make_shared<block>(c, half * sizeof(fr), "roots of unity");
    const fr* table = powers->memory.as<fr>();
    const shift_table t{table, table + (UINT64_C(1) << powers->log_low), powers->log_low};
    c.launch("roots of unity", roots_kernel, half, made->as<fr>(), half, t);
    c.cache->roots = made;
    c.cache->root_log = least;
    return made;
}

// Radices of the passes. In place, an even number of passes, or one, ends where it began; there is one less then, of wider ones, or one more,
// unless all are of radix 2 already.
inline std::vector<uint32_t> schedule(uint32_t log_n, uint32_t radix, bool in_place) {
    uint32_t count = (log_n + radix - 1) / radix;
    if (in_place && count > 1 && count % 2) {
        if (log_n <= WIDEST * (count - 1)) count--;
        else if (count < log_n) count++;
    }
    std::vector<uint32_t> passes;
    for (uint32_t i = 0; i < count; i++) passes.push_back((log_n + i) / count);
    return passes;
}

inline void ntt(context& c, const ph_transform& plan, const ph_column* from, const uint64_t* to, uint32_t batch) {
    if (plan.log_n > 28) fail(PH_INVALID, "log_n is above 28");
    const uint64_t n = UINT64_C(1) << plan.log_n;
    // Held here, since making room may drop it from the cache.
    const auto roots = roots_of(c, plan);
    pass s;
    std::memset((void*)&s, 0, sizeof s);
    s.roots = roots->as<fr>();
    s.root_log = c.cache->root_log;
    s.log_n = plan.log_n;
    s.inverse = plan.inverse;
    s.constant = element_of(plan.size_inverse);
    std::shared_ptr<cached::powers> powers;
    if (plan.coset) {
        powers = plan.inverse ? powers_of(c, element_of(plan.shift_inverse), s.constant, plan.log_n)
                              : powers_of(c, element_of(plan.shift), fr::unit(), plan.log_n);
        const fr* table = powers->memory.as<fr>();
        s.shift = shift_table{table, table + (UINT64_C(1) << powers->log_low), powers->log_low};
    }
    if (plan.log_n == 0) {
        // One value: the transform of a constant, whatever the shift.
        for (uint32_t i = 0; i < batch; i++) {
            if (from[i].len) c.copy((void*)to[i], (const void*)from[i].address, sizeof(fr));
            else c.zero((void*)to[i], sizeof(fr));
        }
        return;
    }
    bool in_place = false;
    for (uint32_t i = 0; i < batch; i++) in_place |= from[i].address == to[i];
    const auto passes = schedule(plan.log_n, c.radix, in_place);
    // As many columns at a time as there is room for beside them.
    uint32_t most = batch < LANES ? batch : LANES;
    block scratch;
    while (passes.size() > 1) {
        try {
            scratch = block(c, most * n * sizeof(fr), "transform");
            break;
        } catch (const failure& f) {
            if (f.code != PH_OUT_OF_MEMORY || most == 1) throw;
            most = most / 2;
        }
    }
    for (uint32_t first = 0; first < batch; first += most) {
        const uint32_t some = batch - first < most ? batch - first : most;
        uint32_t log_p = 0;
        // An odd number of passes in place would read what it has written.
        const bool lifted = in_place && passes.size() > 1 && passes.size() % 2;
        for (uint32_t i = 0; lifted && i < some; i++)
            c.copy(scratch.as<fr>() + i * n, (const void*)from[first + i].address, from[first + i].len * sizeof(fr));
        for (size_t p = 0; p < passes.size(); p++) {
            columns cols;
            std::memset((void*)&cols, 0, sizeof cols);
            // The last pass writes the result; going back, places alternate.
            const bool to_result = (passes.size() - 1 - p) % 2 == 0, from_result = !to_result;
            for (uint32_t i = 0; i < some; i++) {
                fr* spare = scratch.as<fr>() + (passes.size() > 1 ? i * n : 0);
                fr* result = (fr*)to[first + i];
                cols.from[i] = p == 0 && !lifted ? (const fr*)from[first + i].address : from_result ? result : spare;
                cols.len[i] = p == 0 ? from[first + i].len : n;
                cols.to[i] = to_result ? result : spare;
            }
            s.log_p = log_p;
            s.before = p == 0 && plan.coset && !plan.inverse ? BY_TABLE : NONE;
            s.after = p + 1 == passes.size() && plan.inverse ? (plan.coset ? BY_TABLE : BY_CONSTANT) : NONE;
            const uint64_t threads = (uint64_t)some << (plan.log_n - passes[p]);
            switch (passes[p]) {
                case 1: c.launch("transform", ntt_kernel<1>, threads, cols, some, s); break;
                case 2: c.launch("transform", ntt_kernel<2>, threads, cols, some, s); break;
                case 3: c.launch("transform", ntt_kernel<3>, threads, cols, some, s); break;
                default: c.launch("transform", ntt_kernel<4>, threads, cols, some, s); break;
            }
            log_p += passes[p];
        }
    }
}

}  // namespace
