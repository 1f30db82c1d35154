/* The checks of torpor/format/tree.py over a whole entry section at once. It says "all is well" or stops: then Python looks, and
   says what is wrong.

   The section is a stranger's: its columns were cut by torpor/format/entries.py, and every index is bounded here all the same. */

#include "kernels.h"

#include <string.h>

#define NONE 0xFFFFFFFFu
#define NAME_MOST 255
#define TARGET_MOST 4095
#define DEPTH_MOST 4096
#define SIZE_MOST 0x7FFFFFFFFFFFFFFFull

enum { DIRECTORY, FILE_, SYMLINK, HARDLINK, ABSENT };
enum { EMPTY, BUNDLED, CHUNKED };
enum { TORN = 1, SPARSE = 2, ATTRIBUTES = 4 };

/* The section's columns in their order (docs/format.md, entry sections). */
enum {
    PARENT, NAME_LENGTH, NAME, TYPE, MODE, UID, GID, MTIME, SIZE, FLAGS, KIND, B_CHUNK, B_OFFSET, B_ID, C_COUNT, C_CHUNKER, C_REFS,
    S_COUNT, S_EXTENTS, T_LENGTH, T_DATA, LINK, X_LENGTH, X_DATA, COLUMNS
};

/* One open directory, and the name of its last child so far; of length 0 before the first. */
struct level {
    uint32_t number;
    uint32_t length;
    uint8_t name[NAME_MOST + 1];
};

struct tree {
    uint64_t files, directories, links, raw_bytes; /* so far */
    uint64_t depth, root, root_at; /* open directories; roots seen, and where in `roots` the next one begins */
    struct level levels[DEPTH_MOST];
};

struct section {
    uint64_t data, size;         /* address and bytes of the section */
    uint64_t base, rows;
    uint64_t chunk_raw, chunk_pack, chunks; /* addresses of two columns of the chunk list, and its rows */
    uint64_t earlier;            /* address: one byte an entry up to this section's last, 1 for files */
    uint64_t roots, roots_size;  /* address of: is directory (a byte), name's length (2 bytes), name; for each root */
    uint64_t at[COLUMNS];        /* where in the data each column begins; it ends 4 bytes before the next one */
};

static uint64_t get(const uint8_t *from, unsigned width)
{
    uint64_t value = 0;
    memcpy(&value, from, width);
    return value;
}

/* A column that is read from its front. */
struct column {
    const uint8_t *at, *end;
};

static struct column column(const struct section *s, unsigned which)
{
    const uint8_t *data = (const uint8_t *)(uintptr_t)s->data;
    uint64_t start = s->at[which], end = which + 1 < COLUMNS ? s->at[which + 1] - 4 : s->size;
    struct column none = {data, data};
    if (start > s->size || end > s->size || end < start)
        return none;
    struct column found = {data + start, data + end};
    return found;
}

static const uint8_t *take(struct column *from, uint64_t bytes)
{
    const uint8_t *found = from->at;
    if ((uint64_t)(from->end - from->at) < bytes)
        return NULL;
    from->at += bytes;
    return found;
}

static int number(struct column *from, unsigned width, uint64_t *value)
{
    const uint8_t *found = take(from, width);
    if (found == NULL)
        return 0;
    *value = get(found, width);
    return 1;
}

static int good_name(const uint8_t *name, uint64_t length)
{
    if (length == 0 || length > NAME_MOST || memchr(name, '/', length) != NULL || memchr(name, 0, length) != NULL)
        return 0;
    return !(name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.')));
}

static int good_root(struct tree *tree, const struct section *s, const uint8_t *name, uint64_t length, unsigned type)
{
    const uint8_t *data = (const uint8_t *)(uintptr_t)s->roots;
    struct column rest;
    uint64_t folder, held;
    const uint8_t *text;
    if (tree->root_at >= s->roots_size || type > FILE_)
        return 0;
    rest.at = data + tree->root_at;
    rest.end = data + s->roots_size;
    if (!number(&rest, 1, &folder) || !number(&rest, 2, &held) || (text = take(&rest, held)) == NULL)
        return 0;
    tree->root_at = (uint64_t)(rest.at - data);
    return folder == (type == DIRECTORY) && held == length && memcmp(text, name, length) == 0;
}

/* Whether a name may come next below its parent, which becomes the innermost open directory. */
static int good_place(struct tree *tree, uint64_t parent, const uint8_t *name, uint64_t length)
{
    struct level *top;
    while (tree->depth && tree->levels[tree->depth - 1].number != parent)
        tree->depth--;
    if (tree->depth == 0)
        return 0;
    top = &tree->levels[tree->depth - 1];
    if (top->length) {
        uint64_t both = length < top->length ? length : top->length;
        int order = memcmp(name, top->name, both);
        if (order < 0 || (order == 0 && length <= top->length))
            return 0;
    }
    memcpy(top->name, name, length);
    top->length = (uint32_t)length;
    return 1;
}

static int good_extents(struct column *extents, uint64_t count, uint64_t size)
{
    uint64_t end = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t offset, length;
        if (!number(extents, 8, &offset) || !number(extents, 8, &length))
            return 0;
        if ((i && offset <= end) || length == 0 || length > size || offset > size - length)
            return 0;
        end = offset + length;
    }
    return 1;
}

static int good_attributes(const uint8_t *data, uint64_t length)
{
    static const char access[] = "system.posix_acl_access", preset[] = "system.posix_acl_default";
    struct column rest = {data, data + length};
    while (rest.at != rest.end) {
        uint64_t named, valued;
        const uint8_t *name;
        if (!number(&rest, 2, &named) || !number(&rest, 4, &valued))
            return 0;
        if ((name = take(&rest, named)) == NULL || take(&rest, valued) == NULL)
            return 0;
        if (!(named > 5 && memcmp(name, "user.", 5) == 0) && !(named == sizeof access - 1 && memcmp(name, access, named) == 0)
            && !(named == sizeof preset - 1 && memcmp(name, preset, named) == 0))
            return 0;
        if (memchr(name, 0, named) != NULL)
            return 0;
    }
    return 1;
}

/* 1: every row is fine, and the tree's state is that after the last; 0: some row is not, and the state is worth nothing. */
int torpor_check_tree(struct tree *tree, const struct section *s)
{
    struct column columns[COLUMNS];
    const uint8_t *raw = (const uint8_t *)(uintptr_t)s->chunk_raw, *pack = (const uint8_t *)(uintptr_t)s->chunk_pack;
    const uint8_t *earlier = (const uint8_t *)(uintptr_t)s->earlier;

    if (tree->depth > DEPTH_MOST || s->base + s->rows > NONE)
        return 0;
    for (unsigned i = 0; i < COLUMNS; i++)
        columns[i] = column(s, i);
    for (uint64_t row = 0; row < s->rows; row++) {
        uint64_t entry = s->base + row, parent, length, type, mode, size, flags, kind;
        const uint8_t *name;
        if (!number(&columns[PARENT], 4, &parent) || !number(&columns[NAME_LENGTH], 2, &length) || !number(&columns[TYPE], 1, &type)
            || !number(&columns[MODE], 2, &mode) || !number(&columns[SIZE], 8, &size) || !number(&columns[FLAGS], 1, &flags)
            || !number(&columns[KIND], 1, &kind) || (name = take(&columns[NAME], length)) == NULL)
            return 0;
        if (!good_name(name, length) || type > ABSENT || kind > CHUNKED || mode & ~07777u || flags & ~(uint64_t)(TORN | SPARSE | ATTRIBUTES))
            return 0;
        if (parent == NONE) {
            if (!good_root(tree, s, name, length, (unsigned)type))
                return 0;
            tree->root++;
            tree->depth = 0;
        } else if (!good_place(tree, parent, name, length))
            return 0;
        if (type == DIRECTORY) {
            if (tree->depth >= DEPTH_MOST)
                return 0;
            tree->levels[tree->depth].number = (uint32_t)entry;
            tree->levels[tree->depth].length = 0;
            tree->depth++;
            tree->directories++;
        }
        if (type != FILE_ && (size || kind != EMPTY || flags & (SPARSE | TORN)))
            return 0;
        if (type == FILE_) {
            tree->files++;
            if (size > SIZE_MOST - tree->raw_bytes)
                return 0;
            tree->raw_bytes += size;
            if (kind == EMPTY) {
                if (size)
                    return 0;
            } else if (kind == BUNDLED) {
                uint64_t chunk, offset, held;
                if (!number(&columns[B_CHUNK], 4, &chunk) || !number(&columns[B_OFFSET], 4, &offset))
                    return 0;
                if (size == 0 || chunk >= s->chunks || get(pack + 4 * chunk, 4) == NONE)
                    return 0;
                held = get(raw + 4 * chunk, 4);
                if (size > held || offset > held - size)
                    return 0;
            } else {
                uint64_t count, total = 0;
                if (size == 0 || !number(&columns[C_COUNT], 4, &count))
                    return 0;
                for (uint64_t i = 0; i < count; i++) {
                    uint64_t place;
                    if (!number(&columns[C_REFS], 4, &place) || place >= s->chunks)
                        return 0;
                    total += get(raw + 4 * place, 4);
                }
                if (total != size)
                    return 0;
            }
            if (flags & SPARSE) {
                uint64_t count;
                if (!number(&columns[S_COUNT], 4, &count) || !good_extents(&columns[S_EXTENTS], count, size))
                    return 0;
            }
        } else if (type == SYMLINK) {
            uint64_t target;
            const uint8_t *text;
            tree->links++;
            if (!number(&columns[T_LENGTH], 2, &target) || (text = take(&columns[T_DATA], target)) == NULL)
                return 0;
            if (target == 0 || target > TARGET_MOST || memchr(text, 0, target) != NULL)
                return 0;
        } else if (type == HARDLINK) {
            uint64_t link;
            tree->links++;
            if (!number(&columns[LINK], 4, &link) || link >= entry || !earlier[link])
                return 0;
        }
        if (flags & ATTRIBUTES) {
            uint64_t held;
            const uint8_t *text;
            if (!number(&columns[X_LENGTH], 4, &held) || (text = take(&columns[X_DATA], held)) == NULL || !good_attributes(text, held))
                return 0;
        }
    }
    return 1;
}
