// Multi-scalar multiplication: Pippenger's bucket method over a batch of columns.
//
// 1. The magnitude of a scalar is that of s or of r − s, whichever is less; the bits of the largest one of a column, measured on the device, decide
//    the number of its windows, so that columns of zeros, ones, bytes or 16-bit values of either sign cost what they are worth.
// 2. Magnitudes are cut into signed digits; a digit is an entry (index of the base, sign) of a bucket. Counting, scanning and scattering sort
//    the entries by bucket; zero digits leave none.
// 3. Buckets are summed by a segmented reduction over all entries at once: a thread takes consecutive entries whatever buckets they
//    belong to, adds whole runs to their buckets, and passes on the sums of its first and last run where a neighbour has a part of them. A
//    column of ones, all of it one bucket, is as parallel as a random one.
// 4. In each window Σ b·B_b is formed from running sums over short segments, reduced in the same way.
//
// Bases may come with tables of their multiples by 2^(shift·j): then window w of a scalar is an entry of table j = ⌊w/p⌋ in window w mod p, p the number of
// windows in a shift, so that there are fewer windows to close and they may be wider. Widths that divide the shift can use them, and the cheapest
// width is taken, with or without.
//
// (N. Pippenger, "On the evaluation of powers and related problems", 1976; D. J. Bernstein et al., "Faster batch forgery identification", 2012,
// for signed digits and the sum over buckets.)
#pragma once

#include "curve.cuh"
#include "poly.cuh"

#if PH_DEVICE_BUILD
namespace parhelion_cuda {
#else
namespace parhelion_emulation {
#endif

constexpr uint32_t NEGATIVE = 1u << 31;
constexpr uint32_t RUN = 8;
constexpr uint32_t SEGMENT = 16;
constexpr uint32_t WIDEST_WINDOW = 18, WIDEST_WITH_TABLES = 20;
// Additions to a bucket, in units of which closing one costs this many.
constexpr uint64_t BUCKET_COST = 5;

// Some consecutive lanes of a column, of `per` lanes that its windows are dealt to in turn, one table of bases after the other.
struct piece {
    const fr* scalars;
    uint64_t len;
    uint32_t width, windows, first, last;
    uint32_t lane, per;
    uint64_t stride;
};

// The windows of one column that share buckets: these, and the segments that close them.
struct lane {
    uint32_t bucket, buckets, segment, result;
};

// The lesser of s and r − s, and whether it is the latter.
PH_HD bool magnitude(const fr& s, uint32_t limbs[8]) {
    uint32_t other[8];
    s.standard(limbs);
    uint32_t borrow = 0;
    PH_UNROLL for (int i = 0; i < 8; i++) {
        const uint64_t d = (uint64_t)modulus_limb(i) - limbs[i] - borrow;
        other[i] = (uint32_t)d;
        borrow = (uint32_t)(d >> 32) & 1;
    }
    bool less = false, decided = false;
    PH_UNROLL for (int i = 7; i >= 0; i--) {
        if (!decided && other[i] != limbs[i]) {
            less = other[i] < limbs[i];
            decided = true;
        }
    }
    if (less) {
        PH_UNROLL for (int i = 0; i < 8; i++) limbs[i] = other[i];
    }
    return less;
}

PH_HD uint32_t bit_length(const uint32_t limbs[8]) {
    uint32_t bits = 0;
    PH_UNROLL for (int i = 0; i < 8; i++) {
        if (limbs[i]) {
            uint32_t top = 0;
            for (uint32_t rest = limbs[i]; rest; rest >>= 1) top++;
            bits = 32 * i + top;
        }
    }
    return bits;
}

PH_HD uint32_t bits_at(const uint32_t limbs[8], uint32_t at, uint32_t width) {
    const uint32_t word = at >> 5;
    if (word > 7) return 0;
    uint64_t pair = limbs[word];
    if (word < 7) pair |= (uint64_t)limbs[word + 1] << 32;
    return (uint32_t)(pair >> (at & 31)) & ((1u << width) - 1);
}

PH_KERNEL widths_kernel(const piece* pieces, uint64_t count, uint64_t longest, uint32_t* widths) {
    for (uint64_t i = thread_index(); i < count * longest; i += thread_count()) {
        const uint64_t column = i / longest, at = i % longest;
        if (at >= pieces[column].len) continue;
        const fr s = pieces[column].scalars[at];
        if (s.is_nil()) continue;
        uint32_t limbs[8];
        magnitude(s, limbs);
        const uint32_t bits = bit_length(limbs);
        // Read past the caches, or every thread would believe that it is the first with something to say.
        if (bits > *(const volatile uint32_t*)&widths[column]) atomic_max(&widths[column], bits);
    }
}

// Counts the entries of each bucket, or puts them in their places.
template <bool SCATTER>
PH_KERNEL digits_kernel(const piece* pieces, uint64_t count, uint64_t longest, const lane* lanes, uint32_t* counters, uint32_t* entries) {
    for (uint64_t i = thread_index(); i < count * longest; i += thread_count()) {
        const piece& p = pieces[i / longest];
        const uint64_t at = i % longest;
        if (at >= p.len) continue;
        const fr s = p.scalars[at];
        if (s.is_nil()) continue;
        uint32_t limbs[8];
        const bool negative = magnitude(s, limbs);
        const uint32_t half = 1u << (p.width - 1);
        const uint32_t windows = p.windows > p.per ? p.windows : p.last;
        uint32_t carry = 0, in = 0;
        uint64_t base = at;
        PH_LOOP for (uint32_t w = 0; w < windows; w++) {
            uint32_t digit = bits_at(limbs, w * p.width, p.width) + carry;
            carry = digit > half;
            if (carry) digit = (half << 1) - digit;
            if (in >= p.first && in < p.last && digit != 0) {
                const lane& l = lanes[p.lane + in - p.first];
                if (digit <= l.buckets) {
                    const uint32_t place = atomic_next(&counters[l.bucket + digit - 1]);
                    if (SCATTER) entries[place] = (uint32_t)base | ((negative != (carry != 0)) ? NEGATIVE : 0);
                }
            }
            if (++in == p.per) {
                in = 0;
                base += p.stride;
            }
        }
    }
}

// The last bucket that begins at or before an entry and is not empty.
PH_DEV uint32_t bucket_of(const uint32_t* offsets, uint32_t buckets, uint32_t entry) {
    uint32_t low = 0, high = buckets;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (offsets[middle] <= entry) low = middle + 1;
        else high = middle;
    }
    return low - 1;
}

// Bucket b holds the entries from offsets[b] to offsets[b + 1]. Thread t leaves at most two partial sums, in places 2t and 2t + 1.
PH_KERNEL entries_kernel(const affine* bases, const uint32_t* entries, uint32_t total, const uint32_t* offsets, uint32_t buckets, uint32_t run,
                         point* out, uint32_t* keys, point* partials) {
    const uint64_t count = ((uint64_t)total + run - 1) / run;
    for (uint64_t t = thread_index(); t < count; t += thread_count()) {
        const uint32_t low = (uint32_t)(t * run);
        const uint32_t high = total - low > run ? low + run : total;
        uint32_t bucket = bucket_of(offsets, buckets, low);
        uint32_t end = offsets[bucket + 1];
        bool open = offsets[bucket] < low;
        point first = point::identity(), sum = point::identity();
        keys[2 * t] = bucket;
        PH_LOOP for (uint32_t i = low;;) {
            const uint32_t entry = entries[i];
            accumulate(sum, bases[entry & ~NEGATIVE], (entry & NEGATIVE) != 0);
            i++;
            if (i < high && i < end) continue;
            if (i == end && !open) {
                out[bucket] = sum;
                sum = point::identity();
            } else if (i == end) {
                first = sum;
                sum = point::identity();
                open = false;
            }
            if (i == high) break;
            while (offsets[bucket + 1] <= i) bucket++;
            end = offsets[bucket + 1];
        }
        keys[2 * t + 1] = bucket;
        partials[2 * t] = first;
        partials[2 * t + 1] = sum;
    }
}

// The same over partial sums whose keys ascend; whole runs are added to what their key has.
PH_KERNEL partials_kernel(const uint32_t* keys, const point* partials, uint64_t total, point* out, uint32_t* next_keys, point* next) {
    const uint64_t count = (total + RUN - 1) / RUN;
    for (uint64_t t = thread_index(); t < count; t += thread_count()) {
        const uint64_t low = t * RUN, high = low + RUN < total ? low + RUN : total;
        uint32_t key = keys[low];
        bool open = low > 0 && keys[low - 1] == key;
        point first = point::identity(), sum = point::identity();
        next_keys[2 * t] = key;
        PH_LOOP for (uint64_t i = low;;) {
            accumulate(sum, partials[i]);
            i++;
            const bool more = i < total && keys[i] == key;
            if (more && i < high) continue;
            if (!more && !open) {
                if (!sum.is_identity()) {
                    point whole = out[key];
                    accumulate(whole, sum);
                    out[key] = whole;
                }
                sum = point::identity();
            } else if (!more) {
                first = sum;
                sum = point::identity();
                open = false;
            }
            if (i == high) break;
            key = keys[i];
        }
        next_keys[2 * t + 1] = key;
        next[2 * t] = first;
        next[2 * t + 1] = sum;
    }
}

PH_KERNEL identities_kernel(point* points, uint64_t n) {
    for (uint64_t i = thread_index(); i < n; i += thread_count()) points[i] = point::identity();
}

// Σ (b + 1)·B_b over a segment of a window's buckets.
PH_KERNEL segments_kernel(const lane* lanes, uint32_t lane_count, uint32_t segments, const point* buckets, uint32_t* keys, point* sums) {
    for (uint64_t i = thread_index(); i < segments; i += thread_count()) {
        uint32_t low = 0, high = lane_count;
        while (high - low > 1) {
            const uint32_t middle = low + (high - low) / 2;
            if (lanes[middle].segment <= i) low = middle;
            else high = middle;
        }
        const lane& l = lanes[low];
        const uint32_t from = ((uint32_t)i - l.segment) * SEGMENT;
        const uint32_t to = l.buckets - from > SEGMENT ? from + SEGMENT : l.buckets;
        point run = point::identity(), sum = point::identity();
        PH_LOOP for (uint32_t b = to; b > from; b--) {
            accumulate(run, buckets[l.bucket + b - 1]);
            accumulate(sum, run);
        }
        if (from) accumulate(sum, times(run, from));
        keys[i] = l.result;
        sums[i] = sum;
    }
}

struct ending {
    uint32_t lane, windows, width, padding;
};

// Σ 2^(width·w)·lanes[w], from the top.
PH_HD point close(const ending& e, const point* lanes) {
    point sum = point::identity();
    PH_LOOP for (uint32_t w = e.windows; w > 0; w--) {
        PH_LOOP for (uint32_t i = 0; i < e.width && !sum.is_identity(); i++) sum = doubled(sum);
        accumulate(sum, lanes[e.lane + w - 1]);
    }
    return sum;
}

PH_KERNEL endings_kernel(const ending* endings, uint64_t count, const point* lanes, point* out) {
    for (uint64_t i = thread_index(); i < count; i += thread_count()) out[i] = close(endings[i], lanes);
}

// Reduces partial sums into `out`, level by level, with two sets of places.
inline void reduce(context& c, uint32_t* keys[2], point* places[2], uint64_t total, point* out) {
    for (int from = 0; total > 0; from ^= 1) {
        const uint64_t count = chunks(total, RUN);
        c.launch("partial sums", partials_kernel, count, (const uint32_t*)keys[from], (const point*)places[from], total, out, keys[from ^ 1],
                 places[from ^ 1]);
        total = count > 1 ? 2 * count : 0;
    }
}

// Bits of a window's largest digit; the top one holds what is left, and the carry.
inline uint32_t buckets_of(uint32_t bits, uint32_t width, uint32_t window) {
    const uint32_t windows = bits / width + 1;
    return window + 1 < windows ? 1u << (width - 1) : 1u << (bits - width * (windows - 1));
}

// How the scalars of a column are cut.
struct cut {
    uint32_t width, windows, per;

    // Windows of a lane.
    uint64_t sharing(uint32_t in) const { return (windows - in + per - 1) / per; }
    uint32_t buckets(uint32_t bits, uint32_t in) const {
        return in + per < windows ? 1u << (width - 1) : buckets_of(bits, width, in);
    }
};

// The cut with the least additions.
inline cut cut_of(uint64_t len, uint32_t bits, const ph_bases& bases) {
    cut best = {2, bits ? bits / 2 + 1 : 0, bits ? bits / 2 + 1 : 1};
    uint64_t least = UINT64_MAX;
    for (uint32_t width = 2; bits && width <= WIDEST_WITH_TABLES; width++) {
        const uint32_t windows = bits / width + 1, dealt = bases.shift / width;
        const bool tables = bases.tables > 1 && bases.shift % width == 0 && dealt < windows && (windows + dealt - 1) / dealt <= bases.tables;
        if (!tables && width > WIDEST_WINDOW) continue;
        const cut some = {width, windows, tables ? dealt : windows};
        const uint64_t closing = (uint64_t)(some.per - 1) * (1u << (width - 1)) + some.buckets(bits, some.per - 1);
        const uint64_t cost = windows * len + BUCKET_COST * closing;
        if (cost < least) {
            least = cost;
            best = some;
        }
    }
    return best;
}

// Entries of a thread: so many that partial sums take little memory, so few that every processor has some.
inline uint32_t run_of(uint64_t entries) {
    uint32_t run = RUN;
    while (run < 64 && entries / run > (1u << 17)) run *= 2;
    return run;
}

// Pieces whose entries and buckets are sorted and summed together.
struct group {
    std::vector<piece> pieces;
    std::vector<lane> lanes;
    uint64_t entries = 0, buckets = 0, segments = 0, longest = 0;

    // Places for the partial sums of one level, and of the next.
    static uint64_t places(uint64_t entries, uint64_t segments) {
        const uint64_t partials = 2 * chunks(entries, run_of(entries));
        return partials > segments ? partials : segments;
    }

    // What `sum_group` allocates, for some more entries, buckets and segments.
    uint64_t bytes(uint64_t more_entries, uint64_t more_buckets, uint64_t more_segments) const {
        const uint64_t b = buckets + more_buckets, first = places(entries + more_entries, segments + more_segments);
        const uint64_t tables = (pieces.size() + 1) * sizeof(piece) + (lanes.size() + 1) * sizeof(lane);
        const uint64_t counters = (2 * b + 2 + levels(b, CHUNK, CHUNK)) * sizeof(uint32_t);
        const uint64_t partials = (first + 2 * chunks(first, RUN)) * (sizeof(uint32_t) + sizeof(point));
        return tables + counters + (entries + more_entries) * sizeof(uint32_t) + b * sizeof(point) + partials + 6 * 256;
    }
};

inline void sum_group(context& c, const affine* bases, const group& g, point* results) {
    const uint32_t buckets = (uint32_t)g.buckets;
    block table(c, g.pieces.size() * sizeof(piece) + g.lanes.size() * sizeof(lane), "windows");
    piece* pieces = table.as<piece>();
    lane* lanes = (lane*)(pieces + g.pieces.size());
    c.upload(pieces, g.pieces.data(), g.pieces.size() * sizeof(piece));
    c.upload(lanes, g.lanes.data(), g.lanes.size() * sizeof(lane));
    // Counters, then offsets; one more for the end. The cursors of the scatter are a copy.
    block counters(c, (2 * (uint64_t)buckets + 2 + levels(buckets, CHUNK, CHUNK)) * sizeof(uint32_t), "counters of buckets");
    uint32_t *offsets = counters.as<uint32_t>(), *cursors = offsets + buckets + 1, *scratch = cursors + buckets;
    block sorted(c, g.entries * sizeof(uint32_t), "sorted entries");
    block sums(c, (uint64_t)buckets * sizeof(point), "buckets");

    const uint64_t threads = g.pieces.size() * g.longest;
    c.zero(offsets, (uint64_t)buckets * sizeof(uint32_t));
    c.launch("digits", digits_kernel<false>, threads, (const piece*)pieces, (uint64_t)g.pieces.size(), g.longest, (const lane*)lanes, offsets,
             (uint32_t*)nullptr);
    scan<sum>(c, offsets, buckets, 0u, scratch, offsets + buckets);
    c.copy(cursors, offsets, (uint64_t)buckets * sizeof(uint32_t));
    c.launch("digits", digits_kernel<true>, threads, (const piece*)pieces, (uint64_t)g.pieces.size(), g.longest, (const lane*)lanes, cursors,
             sorted.as<uint32_t>());
    uint32_t total = 0;
    c.download(&total, offsets + buckets, sizeof total);

    // Fewer entries may have shorter runs, but no more partial sums than were planned for.
    const uint64_t first = group::places(g.entries, g.segments), second = 2 * chunks(first, RUN);
    uint32_t run = run_of(total);
    while (2 * chunks(total, run) > first) run *= 2;
    const uint64_t partials = 2 * chunks(total, run);
    block keys(c, (first + second) * sizeof(uint32_t), "keys of partial sums");
    block points(c, (first + second) * sizeof(point), "partial sums");
    uint32_t* key_sets[2] = {keys.as<uint32_t>(), keys.as<uint32_t>() + first};
    point* point_sets[2] = {points.as<point>(), points.as<point>() + first};

    c.launch("buckets", identities_kernel, buckets, sums.as<point>(), (uint64_t)buckets);
    c.launch("buckets", entries_kernel, chunks(total, run), bases, (const uint32_t*)sorted.as<uint32_t>(), total, (const uint32_t*)offsets, buckets,
             run, sums.as<point>(), key_sets[0], point_sets[0]);
    reduce(c, key_sets, point_sets, partials > 2 ? partials : 0, sums.as<point>());
    c.launch("windows", segments_kernel, g.segments, (const lane*)lanes, (uint32_t)g.lanes.size(), (uint32_t)g.segments,
             (const point*)sums.as<point>(), key_sets[0], point_sets[0]);
    reduce(c, key_sets, point_sets, g.segments, results);
}

// Sums of entries are numbered in 32 bits, and indices of bases in 31.
constexpr uint64_t MOST_ENTRIES = UINT64_C(1) << 28;
constexpr uint64_t MOST_BUCKETS = UINT64_C(1) << 24;
constexpr uint64_t LONGEST = UINT64_C(1) << 27;

// Multiples of points by 2^shift, with one inversion for several.
constexpr uint32_t TOGETHER = 8;
PH_KERNEL multiples_kernel(const affine* from, affine* to, uint64_t n, uint32_t shift) {
    const uint64_t count = (n + TOGETHER - 1) / TOGETHER;
    for (uint64_t t = thread_index(); t < count; t += thread_count()) {
        point points[TOGETHER];
        fq before[TOGETHER];
        fq all = fq::unit();
        PH_LOOP for (uint32_t j = 0; j < TOGETHER; j++) {
            const uint64_t i = t + j * count;
            points[j] = point::identity();
            before[j] = all;
            if (i >= n || from[i].is_identity()) continue;
            point p = doubled(from[i].x, from[i].y);
            PH_LOOP for (uint32_t bit = 1; bit < shift; bit++) p = doubled(p);
            points[j] = p;
            all = all * p.zzz;
        }
        fq rest = inverse(all);
        PH_LOOP for (uint32_t j = TOGETHER; j > 0; j--) {
            const uint64_t i = t + (j - 1) * count;
            const point p = points[j - 1];
            affine a;
            a.x = fq::nil();
            a.y = fq::nil();
            if (!p.is_identity()) {
                const fq inverted = rest * before[j - 1];
                rest = rest * p.zzz;
                a.x = p.x * (p.zz * inverted).square();
                a.y = p.y * inverted;
            }
            if (i < n) to[i] = a;
        }
    }
}

// Fills the tables after the first.
inline void multiples(context& c, const ph_bases& bases) {
    if (bases.shift == 0 || bases.tables == 0 || bases.len * bases.tables > MOST_ENTRIES) fail(PH_INVALID, "no such tables");
    affine* table = (affine*)bases.address;
    for (uint32_t j = 1; j < bases.tables; j++, table += bases.len)
        c.launch("multiples", multiples_kernel, chunks(bases.len, TOGETHER), (const affine*)table, table + bases.len, bases.len, bases.shift);
}

inline void msm(context& c, const ph_bases& bases, const ph_column* list, uint32_t batch, ph_limbs* out) {
    uint64_t longest = 0;
    std::vector<piece> all(batch);
    for (uint32_t i = 0; i < batch; i++) {
        std::memset((void*)&all[i], 0, sizeof(piece));
        all[i].scalars = (const fr*)list[i].address;
        all[i].len = list[i].len;
        longest = longest < list[i].len ? list[i].len : longest;
    }
    if (longest > LONGEST) fail(PH_INVALID, "a column is longer than 2^27");
    std::vector<uint32_t> bits(batch, 0);
    if (longest > 0) {
        block memory(c, batch * (sizeof(piece) + sizeof(uint32_t)), "columns");
        piece* pieces = memory.as<piece>();
        uint32_t* widths = (uint32_t*)(pieces + batch);
        c.upload(pieces, all.data(), batch * sizeof(piece));
        c.zero(widths, batch * sizeof(uint32_t));
        c.launch("widths", widths_kernel, batch * longest, (const piece*)pieces, (uint64_t)batch, longest, widths);
        c.download(bits.data(), widths, batch * sizeof(uint32_t));
    }

    std::vector<ending> endings(batch);
    std::vector<group> groups(1);
    uint32_t lanes = 0;
    // A part of what is free is left for what is in the way of the rest.
    const uint64_t room = (c.budget - c.used) / 4 * 3;
    for (uint32_t i = 0; i < batch; i++) {
        const cut how = cut_of(all[i].len, bits[i], bases);
        const uint32_t per = bits[i] ? how.per : 0;
        endings[i] = ending{lanes, per, how.width, 0};
        for (uint32_t in = 0; in < per; in++) {
            const uint32_t buckets = how.buckets(bits[i], in);
            const uint64_t entries = all[i].len * how.sharing(in);
            group* g = &groups.back();
            const bool fits = g->entries + entries <= MOST_ENTRIES && g->buckets + buckets <= MOST_BUCKETS &&
                              g->bytes(entries, buckets, chunks(buckets, SEGMENT)) <= room;
            if (!g->lanes.empty() && !fits) {
                groups.emplace_back();
                g = &groups.back();
            }
            if (g->pieces.empty() || g->pieces.back().scalars != all[i].scalars || g->pieces.back().last != in || in == 0) {
                piece p = all[i];
                p.width = how.width;
                p.windows = how.windows;
                p.per = per;
                p.stride = bases.len;
                p.first = in;
                p.lane = (uint32_t)g->lanes.size();
                g->pieces.push_back(p);
            }
            g->pieces.back().last = in + 1;
            g->lanes.push_back(lane{(uint32_t)g->buckets, buckets, (uint32_t)g->segments, lanes + in});
            g->entries += entries;
            g->buckets += buckets;
            g->segments += chunks(buckets, SEGMENT);
            g->longest = g->longest < all[i].len ? all[i].len : g->longest;
        }
        lanes += per;
    }

    std::vector<point> sums(batch, point::identity());
    if (lanes > 0) {
        block results(c, (lanes + (uint64_t)batch) * sizeof(point), "windows");
        point* windows = results.as<point>();
        c.launch("windows", identities_kernel, lanes, windows, (uint64_t)lanes);
        for (const group& g : groups) sum_group(c, (const affine*)bases.address, g, windows);
        // A few columns are closed sooner by the host, many by the device.
        if (batch <= 4) {
            std::vector<point> closed(lanes);
            c.download(closed.data(), windows, lanes * sizeof(point));
            for (uint32_t i = 0; i < batch; i++) sums[i] = close(endings[i], closed.data());
        } else {
            block memory(c, batch * sizeof(ending), "windows");
            c.upload(memory.address, endings.data(), batch * sizeof(ending));
            c.launch("windows", endings_kernel, batch, (const ending*)memory.as<ending>(), (uint64_t)batch, (const point*)windows, windows + lanes);
            c.download(sums.data(), windows + lanes, batch * sizeof(point));
        }
    }
    std::memcpy(out, sums.data(), batch * sizeof(point));
}

}  // namespace
