/* The hash table of torpor/hibernate/idtable.py, for many ids at once: open addressing; a slot holds the number of a row and 1, 0: free. */

#include "kernels.h"

#include <string.h>

#define ID 32

static uint64_t start(const uint8_t *id)
{
    uint64_t first;
    memcpy(&first, id, sizeof first);
    return first;
}

/* Where an id stands, or the free slot in which it would. There is always a free one: the table is at most half full. */
static uint32_t *slot_of(uint32_t *slots, uint64_t mask, const uint8_t *ids, const uint8_t *id)
{
    uint64_t at = start(id) & mask;
    while (slots[at] && memcmp(ids + (slots[at] - 1) * (size_t)ID, id, ID) != 0)
        at = (at + 1) & mask;
    return &slots[at];
}

/* How many of `count` ids the table holds. `ids`: those of its rows. */
size_t torpor_ids_known(const uint32_t *slots, uint64_t mask, const uint8_t *ids, const uint8_t *wanted, size_t count)
{
    size_t known = 0;
    for (size_t i = 0; i < count; i++)
        known += *slot_of((uint32_t *)slots, mask, ids, wanted + i * ID) != 0;
    return known;
}

/* Gives slots to the rows from `first` to `end`, whose ids are in `ids` already; of equal ids, the first row keeps the slot. */
void torpor_ids_add(uint32_t *slots, uint64_t mask, const uint8_t *ids, size_t first, size_t end)
{
    for (size_t row = first; row < end; row++) {
        uint32_t *slot = slot_of(slots, mask, ids, ids + row * ID);
        if (!*slot)
            *slot = (uint32_t)(row + 1);
    }
}
