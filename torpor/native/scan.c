/* A directory with one call for its names and one for the stats of many of them. */

#define _GNU_SOURCE
#include "kernels.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define LISTING (16 * 1024)
#define NAMES (32 * 1024)
#define ENTRIES 2048 /* of a directory that is listed here, and not by the caller: what is on the stack stays small */
#define OPEN_DIRECTORY (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)

/* As the kernel lays it out: linux_dirent64. */
struct listed {
    uint64_t inode;
    int64_t offset;
    unsigned short length;
    unsigned char type;
    char name[];
};

static void fill(struct seen *seen, const struct stat *status)
{
    seen->device = status->st_dev;
    seen->inode = status->st_ino;
    seen->size = (uint64_t)status->st_size;
    seen->blocks = (uint64_t)status->st_blocks;
    seen->links = status->st_nlink;
    seen->mtime = nanoseconds(status->st_mtim);
    seen->ctime = nanoseconds(status->st_ctim);
    seen->mode = status->st_mode;
    seen->uid = status->st_uid;
    seen->gid = status->st_gid;
}

static void look(int folder, const char *name, struct seen *seen)
{
    struct stat status;
    memset(seen, 0, sizeof *seen);
    if (fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) != 0)
        seen->error = errno;
    else
        fill(seen, &status);
}

/* Looks at `count` entries of the open directory `folder`. `names`: one behind the other, each with a zero byte. Returns how many of them
   are regular files of one name. */
size_t torpor_stat_many(int folder, const char *names, struct seen *seen, size_t count)
{
    size_t plain = 0;
    for (size_t i = 0; i < count; i++) {
        look(folder, names, &seen[i]);
        plain += S_ISREG(seen[i].mode) && seen[i].links == 1;
        names += strlen(names) + 1;
    }
    return plain;
}

/* The first byte is the type, the name follows. */
static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a + 1, *(char *const *)b + 1); }

static char type_of(int folder, const struct listed *entry)
{
    struct stat status;
    if (entry->type != 0) /* DT_UNKNOWN: not every file system tells */
        return entry->type == 4 ? 'd' : 'f';
    return fstatat(folder, entry->name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode) ? 'd' : 'f';
}

/* A freshly opened directory's names in the order of their bytes, each behind 'd' (a directory) or 'f' and with a zero byte at its end.
   Returns their bytes; -1 if there is no room for them or they can't be read. */
static int64_t list(int folder, char *names, size_t room)
{
    char listing[LISTING] __attribute__((aligned(8))), raw[NAMES], *order[ENTRIES];
    size_t count = 0, filled = 0;
    for (;;) {
        long got = syscall(SYS_getdents64, folder, listing, sizeof listing);
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        for (long at = 0; at < got;) {
            const struct listed *entry = (const void *)(listing + at);
            const char *name = entry->name;
            size_t length = strlen(name) + 1;
            at += entry->length;
            if (name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2])))
                continue;
            if (count == ENTRIES || length + 1 > sizeof raw - filled || length + 1 > room - filled)
                return -1;
            order[count++] = raw + filled;
            raw[filled++] = type_of(folder, entry);
            memcpy(raw + filled, name, length);
            filled += length;
        }
    }
    qsort(order, count, sizeof *order, by_name);
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(order[i]) + 1;
        memcpy(names, order[i], length);
        names += length;
    }
    return (int64_t)filled;
}

/* Opens the directory `name` in `above`, and looks at it and into it. Returns its descriptor, or -1; then `own->error` says why.

   `plain`: 1 if it has no extended attributes. `listed`: the bytes of `names` as `list` gives them, or -1: the caller has to list it,
   as always on another device than `device`. */
int torpor_enter(int above, const char *name, uint64_t device, struct seen *own, uint8_t *plain, char *names, size_t room, int64_t *listed)
{
    struct stat status;
    int folder = openat(above, name, OPEN_DIRECTORY);
    memset(own, 0, sizeof *own);
    *listed = -1;
    if (folder < 0 || fstat(folder, &status) != 0) {
        own->error = errno;
        if (folder >= 0)
            close(folder);
        return -1;
    }
    fill(own, &status);
    ssize_t attributes = flistxattr(folder, NULL, 0);
    *plain = attributes == 0 || (attributes < 0 && errno == ENOTSUP);
    if (status.st_dev == device)
        *listed = list(folder, names, room);
    if (*listed < 0)
        lseek(folder, 0, SEEK_SET); /* whoever lists it begins where it begins */
    return folder;
}
