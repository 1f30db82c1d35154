/* A chunk is coded or decoded in one call: planes and frames stay in a core's cache between the steps.

   zstd comes in as a table of addresses (coding.py), since the wheel's own library is the one that is used. A function that returns 0
   has found something that is not plain; the caller then goes the Python way, which decides and says why. */

#include "kernels.h"

#include <string.h>

#define ALIGN 16
#define BLOCK 16384 /* elements split at a time: one comes from memory once, then from the cache */
#define WINDOW_LOG_MAX 23 /* docs/format.md, codec 1 */
#define RESET_SESSION 1 /* ZSTD_reset_session_only */

struct zstd {
    size_t (*decompress)(void *context, void *into, size_t room, const void *from, size_t length);
    unsigned long long (*content_size)(const void *frame, size_t length);
    size_t (*frame_size)(const void *frame, size_t length);
    size_t (*compress)(void *context, void *into, size_t room, const void *from, size_t length);
    size_t (*bound)(size_t length);
    unsigned (*is_error)(size_t code);
    size_t (*reset)(void *context, int what);
};

struct span {
    uint64_t at, length;
};

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Decodes `length` untrusted bytes that must be exactly one frame of exactly `count` bytes. Nothing else is ever written. */
int torpor_decode_frame(const struct zstd *z, void *context, const uint8_t *from, size_t length, uint8_t *into, size_t count)
{
    static const uint8_t magic[4] = {0x28, 0xB5, 0x2F, 0xFD};
    if (length < 6 || memcmp(from, magic, sizeof magic) != 0)
        return 0;
    /* A decoder that writes into one piece needs no window, so zstd does not look at its size here; the format bounds it. */
    if (!(from[4] & 0x20)) {
        unsigned exponent = 10 + (from[5] >> 3), mantissa = from[5] & 7;
        if (exponent > WINDOW_LOG_MAX || (exponent == WINDOW_LOG_MAX && mantissa))
            return 0;
    }
    return z->content_size(from, length) == count && z->frame_size(from, length) == length
        && z->decompress(context, into, count, from, length) == count;
}

/* One frame of `length` bytes; its size, or 0. */
size_t torpor_encode_frame(const struct zstd *z, void *context, const uint8_t *from, size_t length, uint8_t *into, size_t room)
{
    size_t bound = z->bound(length);
    if (z->is_error(bound) || room < bound)
        return 0;
    size_t size = z->compress(context, into, bound, from, length);
    if (!z->is_error(size))
        return size;
    z->reset(context, RESET_SESSION);
    return 0;
}

/* `spans`: where a stored plane lies (one span), or each frame of a coded one (bit `plane` of `framed`), planes in order.
   The caller has checked them against the layout; what they reach is checked against `size` here once more.
   `scratch`: a frame's elements for each coded plane. `into`: `count` elements of `width` bytes. */
int torpor_decode_planes(const struct zstd *z, void *context, const uint8_t *coded, size_t size, const struct span *spans, unsigned width,
                         unsigned framed, size_t frame, size_t count, uint8_t *scratch, uint8_t *into)
{
    const struct span *rows[4];
    for (unsigned plane = 0; plane < width; plane++) {
        rows[plane] = spans;
        spans += framed >> plane & 1 ? (count + frame - 1) / frame : 1;
    }
    for (size_t first = 0, number = 0; first < count; first += frame, number++) {
        size_t length = least(frame, count - first);
        const uint8_t *planes[4];
        uint8_t *room = scratch;
        for (unsigned plane = 0; plane < width; plane++) {
            struct span span = rows[plane][framed >> plane & 1 ? number : 0];
            if (span.at > size || span.length > size - span.at)
                return 0;
            if (!(framed >> plane & 1)) {
                if (span.length != count)
                    return 0;
                planes[plane] = coded + span.at + first;
                continue;
            }
            if (!torpor_decode_frame(z, context, coded + span.at, span.length, room, length))
                return 0;
            planes[plane] = room;
            room += length;
        }
        if (width == 2)
            torpor_merge2(planes[0], planes[1], into + first * 2, length);
        else
            torpor_merge4(planes[0], planes[1], planes[2], planes[3], into + first * 4, length);
    }
    return 1;
}

static void split(const uint8_t *from, unsigned width, unsigned plane, uint8_t *into, size_t count)
{
    (width == 2 ? torpor_split2 : torpor_split4)(from, plane, into, count);
}

/* Splits elements `first` and on: planes that are stored to their places, and `coded` (if it is one) to `scratch`. */
static void split_all(const uint8_t *from, unsigned width, size_t first, size_t length, unsigned stored, const size_t *places,
                      uint8_t *into, unsigned coded, uint8_t *scratch)
{
    for (size_t done = 0; done < length; done += BLOCK) {
        size_t at = first + done, some = least(BLOCK, length - done);
        for (unsigned plane = 0; plane < width; plane++)
            if (stored >> plane & 1)
                split(from + at * width, width, plane, into + places[plane] + at, some);
        if (coded < width)
            split(from + at * width, width, coded, scratch + done, some);
    }
}

/* Everything from the first plane on, as docs/format.md lays it out, counted from `into`; its size, or 0.

   `framed`: the planes to be coded; those that their frames don't shrink to `limit` bytes are stored, and their bits go.
   `lengths`: of each frame, `width` rows. Planes that are stored wait for one that is coded, so that both are split in one pass;
   their places are known by then. */
size_t torpor_encode_planes(const struct zstd *z, void *context, const uint8_t *from, unsigned width, size_t count, size_t frame,
                            unsigned *framed, size_t limit, uint8_t *scratch, uint8_t *into, size_t room, uint32_t *lengths)
{
    size_t frames = (count + frame - 1) / frame, end = 0, places[4];
    unsigned waiting = 0;
    for (unsigned plane = 0; plane < width; plane++) {
        size_t start = end, sum = 0;
        if (*framed >> plane & 1) {
            for (size_t number = 0; number < frames && sum <= limit; number++) {
                size_t first = number * frame, length = least(frame, count - first), at = (end + ALIGN - 1) / ALIGN * ALIGN;
                split_all(from, width, first, length, waiting, places, into, plane, scratch);
                if (at > room)
                    return 0;
                memset(into + end, 0, at - end);
                size_t size = torpor_encode_frame(z, context, scratch, length, into + at, room - at);
                if (size == 0)
                    return 0;
                lengths[plane * frames + number] = (uint32_t)size;
                sum += size;
                end = at + size;
            }
            if (sum <= limit) {
                waiting = 0;
                continue;
            }
            *framed &= ~(1u << plane);
        }
        places[plane] = (start + ALIGN - 1) / ALIGN * ALIGN;
        end = places[plane] + count;
        if (end > room)
            return 0;
        memset(into + start, 0, places[plane] - start);
        waiting |= 1u << plane;
    }
    if (waiting && *framed)
        split_all(from, width, 0, count, waiting, places, into, width, scratch);
    return end;
}

/* How often each byte stands at each place of elements of 1, 2 or 4 bytes: `width` rows of 256.
   `rotate`: after the elements were rotated left by one bit, as planes are. */
void torpor_count(const uint8_t *from, size_t count, unsigned width, unsigned rotate, uint32_t *rows)
{
    memset(rows, 0, width * 256 * sizeof *rows);
    for (size_t i = 0; i < count; i++, from += width)
        for (unsigned place = 0; place < width; place++) {
            unsigned below = from[place ? place - 1 : width - 1];
            rows[place * 256 + (rotate ? (from[place] << 1 | below >> 7) & 255 : from[place])]++;
        }
}
