/* The directories of a restore, in tree order: made, and in the end given their permissions and times, each opened once. */

#define _GNU_SOURCE
#include "kernels.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEEPEST 256 /* directories open at once */
#define SPECIAL 0xFFFFFFFFu
#define OPEN_FOLDER (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

/* The open directories from the root's child down. A directory's number is its place in the columns; -1 is the root itself. */
struct trail {
    int root, depth;
    struct {
        int handle, blocked;
        int32_t number;
    } at[DEEPEST];
};

static int top(const struct trail *trail) { return trail->depth ? trail->at[trail->depth - 1].handle : trail->root; }

static int below(const struct trail *trail, int32_t parent)
{
    int depth = trail->depth;
    while (depth && trail->at[depth - 1].number != parent)
        depth--;
    return depth || parent < 0 ? depth : -1; /* how many stay open; -1: the parent is not */
}

static int enter(struct trail *trail, const char *name, int32_t number)
{
    int handle = trail->depth < DEEPEST ? openat(top(trail), name, OPEN_FOLDER) : -1;
    if (handle < 0)
        return 0;
    trail->at[trail->depth].handle = handle;
    trail->at[trail->depth].blocked = 0;
    trail->at[trail->depth].number = number;
    trail->depth++;
    return 1;
}

/* Makes directories, 0700; how many of them, in order, until one could not be. */
size_t torpor_make_folders(int root, const char *names, const int32_t *parents, size_t count)
{
    struct trail trail = {.root = root, .depth = 0};
    size_t made = 0;
    for (; made < count; made++, names += strlen(names) + 1) {
        int depth = below(&trail, parents[made]);
        if (depth < 0)
            break;
        while (trail.depth > depth)
            close(trail.at[--trail.depth].handle);
        if (mkdirat(top(&trail), names, 0700) != 0)
            break;
        if (made + 1 < count && parents[made + 1] == (int32_t)made && !enter(&trail, names, (int32_t)made)) {
            made++;
            break;
        }
    }
    while (trail.depth)
        close(trail.at[--trail.depth].handle);
    return made;
}

struct finish {
    const char *names;
    const int32_t *parent;
    const uint32_t *mode; /* SPECIAL: left to the caller */
    const uint32_t *uid, *gid;
    const int64_t *mtime;
    uint64_t change; /* whether owners are set */
};

static int finish_one(const struct finish *all, int handle, size_t i)
{
    struct stat status;
    struct timespec times[2];
    uint32_t mode = all->mode[i];
    int other;
    if (mode == SPECIAL || fstat(handle, &status) != 0)
        return 0;
    other = status.st_uid != all->uid[i] || status.st_gid != all->gid[i];
    if (other && (!all->change || fchown(handle, all->uid[i], all->gid[i]) != 0))
        return 0;
    if ((other || (status.st_mode & 07777) != mode) && fchmod(handle, mode) != 0)
        return 0;
    times[0] = times[1] = moment(all->mtime[i]);
    return futimens(handle, times) == 0;
}

/* Finishes the innermost open directory. One that is not finished keeps those above it from being so: it must stay in reach. */
static void leave(const struct finish *all, struct trail *trail, uint8_t *done)
{
    int last = --trail->depth;
    if (!trail->at[last].blocked && finish_one(all, trail->at[last].handle, (size_t)trail->at[last].number))
        done[trail->at[last].number] = 1;
    else if (last)
        trail->at[last - 1].blocked = 1;
    close(trail->at[last].handle);
}

/* done[i] = 1 for directories that are finished, children before parents. */
void torpor_finish_folders(int root, const struct finish *all, uint8_t *done, size_t count)
{
    struct trail trail = {.root = root, .depth = 0};
    const char *name = all->names;
    for (size_t i = 0; i < count; i++, name += strlen(name) + 1) {
        int depth = below(&trail, all->parent[i]);
        if (depth < 0)
            continue;
        while (trail.depth > depth)
            leave(all, &trail, done);
        if (!enter(&trail, name, (int32_t)i) && trail.depth)
            trail.at[trail.depth - 1].blocked = 1;
    }
    while (trail.depth)
        leave(all, &trail, done);
}
