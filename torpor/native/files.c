/* Many small files in one call: the interpreter's lock is let go once for all of them, not six times for each. */

#define _GNU_SOURCE
#include "kernels.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SET_MODE 0x80000000u
#define SET_OWNER 0x40000000u

unsigned torpor_abi(void) { return TORPOR_ABI; }

/* Files to be read. */
struct wanted {
    const char *paths;       /* each ends with a zero byte */
    const struct seen *seen; /* what the walk saw of each */
    uint8_t *buffer;
    uint64_t room;           /* bytes of the buffer */
    int64_t margin;          /* a change so long after the last one shows in the times, in ns */
    int64_t since;           /* a change shows in the times if there was none from `margin` before this moment on */
    uint32_t *offset;        /* out: where in the buffer the bytes begin */
    uint8_t *done;           /* out */
};

static int read_one(const char *path, const struct seen *seen, uint8_t *into, uint64_t room)
{
    struct stat status;
    uint64_t size = seen->size;
    int good = 0, fd;
    if (size > room || seen->blocks < (size + 511) / 512) /* no room, or holes */
        return 0;
    fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return 0;
    ssize_t got = size ? pread(fd, into, size, 0) : 0;
    if (got >= 0 && (uint64_t)got == size && fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
        good = (uint64_t)status.st_size == size && status.st_ino == seen->inode
            && nanoseconds(status.st_mtim) == seen->mtime && nanoseconds(status.st_ctim) == seen->ctime;
        if (good) {
            ssize_t attributes = flistxattr(fd, NULL, 0);
            good = attributes == 0 || (attributes < 0 && errno == ENOTSUP);
        }
    }
    close(fd);
    return good;
}

/* Reads files that are as the walk saw them, have no holes and no extended attributes, one behind the other: done[i] = 1, or 2 if every
   later change will show in the file's times. Others are left to the caller: 0. Returns how much of the buffer is used. */
uint64_t torpor_read_small(const struct wanted *files, size_t count)
{
    const char *path = files->paths;
    uint64_t used = 0;
    struct timespec clock;
    clock_gettime(CLOCK_REALTIME, &clock);
    int64_t now = nanoseconds(clock), margin = files->margin, since = files->since < now ? files->since : now;
    for (size_t i = 0; i < count; i++, path += strlen(path) + 1) {
        const struct seen *seen = &files->seen[i];
        files->done[i] = (uint8_t)read_one(path, seen, files->buffer + used, files->room - used);
        if (!files->done[i])
            continue;
        files->offset[i] = (uint32_t)used;
        used += seen->size;
        /* As is_racy of torpor/workspace/record.py. */
        if (seen->ctime <= since - margin && (seen->mtime <= now - margin || seen->mtime >= now + margin))
            files->done[i] = 2;
    }
    return used;
}

/* Files to be made, each column with an item a file, and where the stat of each goes when it is whole: by its entry number. */
struct make {
    const char *names;      /* each ends with a zero byte */
    const uint8_t *data;
    const uint32_t *offset; /* into `data` */
    const uint32_t *size;
    const int64_t *mtime;
    const uint32_t *mode;   /* permissions; SET_MODE: set them again, since open's umask took some; SET_OWNER: set that too */
    const int32_t *folder;  /* an open directory */
    const uint32_t *number;
    const uint32_t *uid, *gid; /* read for SET_OWNER only */
    uint64_t *device, *inode; /* out, by number */
    int64_t *ctime;
    uint8_t *flags;
    int64_t margin;         /* seconds: a file whose mtime is less away from now is marked 1, else 0 */
};

static int write_one(const struct make *all, const char *name, size_t i)
{
    struct stat status;
    const uint8_t *data = all->data + all->offset[i];
    struct timespec times[2], now;
    uint64_t at = 0, size = all->size[i], number = all->number[i];
    int64_t mtime = all->mtime[i], away;
    int fd = openat(all->folder[i], name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, all->mode[i] & 0777);
    if (fd < 0)
        return 0;
    while (at < size) {
        ssize_t wrote = pwrite(fd, data + at, size - at, (off_t)at);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            goto failed;
        at += (uint64_t)wrote;
    }
    if (all->mode[i] & SET_OWNER && fchown(fd, all->uid[i], all->gid[i]) != 0)
        goto failed;
    if (all->mode[i] & SET_MODE && fchmod(fd, all->mode[i] & 07777) != 0)
        goto failed;
    times[0] = times[1] = moment(mtime);
    if (futimens(fd, times) != 0 || fstat(fd, &status) != 0 || clock_gettime(CLOCK_REALTIME, &now) != 0)
        goto failed;
    if (close(fd) == 0) {
        all->device[number] = status.st_dev;
        all->inode[number] = status.st_ino;
        all->ctime[number] = nanoseconds(status.st_ctim);
        away = mtime / SECOND - now.tv_sec; /* in seconds: nanoseconds of two times may lie too far apart to be told */
        all->flags[number] = away > -all->margin && away < all->margin;
        return 1;
    }
    unlinkat(all->folder[i], name, 0);
    return 0;
failed:
    close(fd);
    unlinkat(all->folder[i], name, 0); /* it was made here, by O_EXCL */
    return 0;
}

/* Makes new files, whole, with permissions and times: done[i] = 1. What can't be made is left to the caller, as if never tried: 0. */
void torpor_make_files(const struct make *all, uint8_t *done, size_t count)
{
    const char *name = all->names;
    for (size_t i = 0; i < count; i++, name += strlen(name) + 1)
        done[i] = (uint8_t)write_one(all, name, i);
}
