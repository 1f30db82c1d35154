/* Many small files in one call: the interpreter's lock is let go once for all of them, not six times for each. */

#define _GNU_SOURCE
#include "kernels.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define SET_MODE 0x80000000u

unsigned torpor_abi(void) { return TORPOR_ABI; }

static int64_t nanoseconds(struct timespec at) { return at.tv_sec * SECOND + at.tv_nsec; }

/* What the walk saw of a file, and what came of reading it. */
struct wanted {
    uint64_t path, offset, size, inode; /* offsets into `paths` and into the buffer */
    int64_t mtime, ctime;
};

static int read_one(const char *path, uint8_t *into, const struct wanted *file)
{
    struct stat status;
    int good = 0, fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return 0;
    ssize_t got = file->size ? pread(fd, into, file->size, 0) : 0;
    if (got >= 0 && (uint64_t)got == file->size && fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
        good = (uint64_t)status.st_size == file->size && status.st_ino == file->inode
            && nanoseconds(status.st_mtim) == file->mtime && nanoseconds(status.st_ctim) == file->ctime;
        if (good) {
            ssize_t attributes = flistxattr(fd, NULL, 0);
            good = attributes == 0 || (attributes < 0 && errno == ENOTSUP);
        }
    }
    close(fd);
    return good;
}

/* Reads files that are as the walk saw them and have no extended attributes: done[i] = 1. Others are left to the caller: 0. */
void torpor_read_small(const char *paths, const struct wanted *files, uint8_t *buffer, uint8_t *done, size_t count)
{
    for (size_t i = 0; i < count; i++)
        done[i] = (uint8_t)read_one(paths + files[i].path, buffer + files[i].offset, &files[i]);
}

/* A file to be made, relative to an open directory, and the stat of it when it is finished. */
struct made {
    uint64_t name, data, size; /* `name`: offset into `names`; `data`: address */
    int64_t mtime;
    uint32_t mode; /* permissions; SET_MODE: set them again, since open's umask took some */
    int32_t folder;
    uint64_t device, inode; /* out */
    int64_t ctime;
};

static int write_one(const char *name, struct made *file)
{
    struct stat status;
    const uint8_t *data = (const uint8_t *)(uintptr_t)file->data;
    struct timespec times[2];
    uint64_t at = 0;
    int fd = openat(file->folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, file->mode & 0777);
    if (fd < 0)
        return 0;
    while (at < file->size) {
        ssize_t wrote = pwrite(fd, data + at, file->size - at, (off_t)at);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            goto failed;
        at += (uint64_t)wrote;
    }
    if (file->mode & SET_MODE && fchmod(fd, file->mode & 07777) != 0)
        goto failed;
    times[0].tv_sec = file->mtime / SECOND - (file->mtime % SECOND < 0);
    times[0].tv_nsec = file->mtime - times[0].tv_sec * SECOND;
    times[1] = times[0];
    if (futimens(fd, times) != 0 || fstat(fd, &status) != 0)
        goto failed;
    file->device = status.st_dev;
    file->inode = status.st_ino;
    file->ctime = nanoseconds(status.st_ctim);
    if (close(fd) == 0)
        return 1;
    unlinkat(file->folder, name, 0);
    return 0;
failed:
    close(fd);
    unlinkat(file->folder, name, 0); /* it was made here, by O_EXCL */
    return 0;
}

/* Makes new files, whole, with permissions and times: done[i] = 1. What can't be made is left to the caller, as if never tried: 0. */
void torpor_write_small(const char *names, struct made *files, uint8_t *done, size_t count)
{
    for (size_t i = 0; i < count; i++)
        done[i] = (uint8_t)write_one(names + files[i].name, &files[i]);
}
