"""What comes after the bytes: links, folders' metadata, and with --replace the removal of what the snapshot does not hold."""

from __future__ import annotations

import errno
import os
import stat

from torpor.errors import Malformed, TargetNotEmpty
from torpor.format.entries import EntryBlock
from torpor.format.version import NONE
from torpor.wake import trees
from torpor.wake.files import TEMPORARY, Kept, copy_file, folder_in_the_way, temporary_name
from torpor.wake.folders import Anchors, Folders, located
from torpor.wake.metadata import Metadata
from torpor.wake.removal import Mount, Remover, mount_of, open_up, unsaved
from torpor.wake.survey import Survey
from torpor.workspace.excludes import IGNORE_FILE, Excludes, of_snapshot

_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)


class Finisher:
    """Runs on the job's own thread (and links once on the thread that wrote the last small file)."""

    def __init__(self, survey: Survey, anchors: Anchors, metadata: Metadata, kept: Kept, replace: bool, remover: Remover) -> None:
        self._survey = survey
        self._anchors = anchors
        self._metadata = metadata
        self._kept = kept
        self._replace = replace
        self._remover = remover

    def folders(self) -> None:
        """Make every directory, 0700 for now; in a target that holds files, what is no directory gives way."""
        handles = Folders(self._survey, self._anchors)
        made = trees.make(self._survey, self._anchors)
        try:
            for number, (parent, name) in self._survey.folders.items():
                if parent == NONE or number in made:
                    continue
                handle = handles.fd(parent)
                try:
                    _make_folder(handle, name)
                except OSError as error:
                    raise located(error, handle, name) from error
        finally:
            handles.close()

    def symlinks(self) -> None:
        handles = Folders(self._survey, self._anchors)
        try:
            for number in self._survey.symlinks:
                block, row = self._survey.index.at(number)
                handle, name = handles.place(block.parent[row], block.names[row], number)
                target = block.content[row]
                if not isinstance(target, bytes):
                    raise Malformed("A symbolic link has no target.")
                try:
                    try:
                        os.symlink(target, name, dir_fd=handle)
                    except FileExistsError:
                        self._replace_link(handle, name, target)
                    self._metadata.link(handle, name, block, row)
                except OSError as error:
                    raise located(error, handle, name) from error
        finally:
            handles.close()

    def _replace_link(self, handle: int, name: bytes, target: bytes) -> None:
        status = os.stat(name, dir_fd=handle, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode) and os.readlink(name, dir_fd=handle) == target:
            return
        if stat.S_ISDIR(status.st_mode):
            if not self._replace:
                raise folder_in_the_way(name)
            self._remover.clear(handle, name)
        temporary = temporary_name()
        os.symlink(target, temporary, dir_fd=handle)
        _move(handle, temporary, name)

    def hardlinks(self) -> None:
        """Link names to files that were written. Changing a file's link count changes its ctime, so its stat is taken again."""
        handles, sources = Folders(self._survey, self._anchors), Folders(self._survey, self._anchors)
        try:
            for number, first in zip(self._survey.hardlinks, self._survey.hardlink_targets, strict=True):
                block, row = self._survey.index.at(number)
                handle, name = handles.place(block.parent[row], block.names[row], number)
                there, at = self._survey.index.at(first)
                source, old = sources.place(there.parent[at], there.names[at], first)
                try:
                    self._link((source, old), (handle, name), (there, at))
                except OSError as error:
                    raise located(error, handle, name) from error
                self._kept.seen(first, os.stat(old, dir_fd=source, follow_symlinks=False))
        finally:
            handles.close()
            sources.close()

    def _link(self, first: tuple[int, bytes], new: tuple[int, bytes], entry: tuple[EntryBlock, int]) -> None:
        """Give the file `first` (directory handle, name; `entry` describes it) another name, over what stands there."""
        handle, name = new
        try:
            self._join(first, new, entry)
            return
        except FileExistsError:
            status = os.stat(name, dir_fd=handle, follow_symlinks=False)
        wanted = os.stat(first[1], dir_fd=first[0], follow_symlinks=False)
        if (status.st_dev, status.st_ino) == (wanted.st_dev, wanted.st_ino):
            return
        if stat.S_ISDIR(status.st_mode):
            if not self._replace:
                raise folder_in_the_way(name)
            self._remover.clear(handle, name)
        temporary = temporary_name()
        self._join(first, (handle, temporary), entry)
        _move(handle, temporary, name)

    def _join(self, first: tuple[int, bytes], new: tuple[int, bytes], entry: tuple[EntryBlock, int]) -> None:
        """Link; where roots lie on file systems of their own, or there are no links, copy, and say so."""
        try:
            os.link(first[1], new[1], src_dir_fd=first[0], dst_dir_fd=new[0], follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._metadata.refused["hard link"] += 1
            copy_file(first, new, self._metadata, *entry)

    def extras(self, excludes: list[str], dry_run: bool) -> int:
        """Remove (or, dry, count) what the target holds and the snapshot does not.

        Left alone is what the snapshot excluded or says that it could not save, and what the remover never removes.
        """
        survey = self._survey
        children: dict[int, set[bytes]] = {number: set() for number in survey.folders}
        for block in survey.index.raw_blocks():
            for row, parent in enumerate(block.parent):
                if parent in children:
                    children[parent].add(block.names[row])
        lost = unsaved((problem.path, problem.kind, problem.detail) for problem in survey.index.problems())
        handles = Folders(survey, self._anchors)
        paths: dict[int, bytes] = {}
        rules: dict[int, Excludes] = {}
        roots: dict[int, int] = {}  # the entry of the root that a folder lies in
        stays: dict[int, str] = {}  # why nothing in a folder is removed
        mounts: dict[int, Mount] = {}
        count = 0
        try:
            for number, (parent, name) in survey.folders.items():
                paths[number] = b"" if parent == NONE else (paths[parent] + b"/" + name).lstrip(b"/")
                rules[number] = of_snapshot(excludes) if parent == NONE else rules[parent]
                root = roots[number] = number if parent == NONE else roots[parent]
                stays[number] = "" if parent == NONE else stays[parent]
                try:
                    handle = handles.fd(number)
                except (FileNotFoundError, PermissionError, TargetNotEmpty):
                    if not dry_run:
                        raise
                    continue  # a dry run makes no folders, and opens none that are shut
                if IGNORE_FILE in children[number]:
                    rules[number].enter(paths[number], _read_ignore(handle))
                if parent == NONE:
                    mounts[number] = mount_of(handle)
                above = survey.index.meta.roots[survey.roots[root]].path.rstrip(b"/")
                place = above + b"/" + paths[number] if paths[number] else above
                if lost is None:
                    stays[number] = "the snapshot does not name all that it could not save"
                elif root in mounts and not stays[number]:
                    stays[number] = self._remover.reason(handle, mounts[root])
                shut = lost is not None and place in lost and not children[number]  # it could not be listed
                for child, directory in _listing(handle):
                    if child in children[number] or rules[number].drops(paths[number], child, directory):
                        continue
                    why = stays[number]
                    if not why and (shut or (lost is not None and place + b"/" + child in lost)):
                        why = "the snapshot could not save it"
                    if not why and dry_run and directory:
                        why = self._remover.reason_for(handle, child)
                    if why:
                        self._remover.leave(handle, child, why)
                        continue
                    self._remover.name(handle, child)
                    count += 1 if dry_run else self._remover.tree(handle, child)
        finally:
            handles.close()
        return count

    def sweep(self) -> None:
        """Remove temporary files that a restore which was killed left in a target; what the snapshot calls so stays."""
        survey = self._survey
        handles = Folders(survey, self._anchors)
        try:
            left = {
                (number, os.fsencode(found))
                for number in survey.folders
                for found in os.listdir(handles.fd(number))
                if found.startswith(TEMPORARY)
            }
            if left:
                for block in survey.index.raw_blocks():
                    left.difference_update(zip(block.parent, block.names, strict=True))
            for number, name in left:
                handle = handles.fd(number)
                if not stat.S_ISDIR(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode):
                    os.unlink(name, dir_fd=handle)
        finally:
            handles.close()

    def root_times(self) -> None:
        """Once more after the last change in a root, the mark's removal."""
        handles = Folders(self._survey, self._anchors)
        try:
            for number in self._survey.roots.keys() & self._survey.folders.keys():
                block, row = self._survey.index.at(number)
                fd = handles.fd(number)
                try:
                    os.utime(fd, ns=(block.mtime[row], block.mtime[row]))
                except OSError as error:
                    raise located(error, fd, b"") from error
        finally:
            handles.close()

    def metadata(self) -> None:
        """Permissions and times of all directories, children first, so that no later write moves a time."""
        done = trees.finish(self._survey, self._anchors, self._metadata)
        handles = Folders(self._survey, self._anchors)
        try:
            for number in reversed(self._survey.folders):
                if number in done:
                    continue
                block, row = self._survey.index.at(number)
                fd = handles.fd(number)
                try:
                    self._metadata.apply(fd, block, row, os.fstat(fd))
                except OSError as error:
                    raise located(error, fd, b"") from error
        finally:
            handles.close()


def _move(handle: int, temporary: bytes, name: bytes) -> None:
    """Put what was made over what stands there; if that is not to be moved, leave nothing beside it."""
    try:
        os.rename(temporary, name, src_dir_fd=handle, dst_dir_fd=handle)
    except OSError:
        os.unlink(temporary, dir_fd=handle)
        raise


def _make_folder(handle: int, name: bytes) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=handle)
    except FileExistsError:
        status = os.stat(name, dir_fd=handle, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            open_up(handle, name, status)
            return
        os.unlink(name, dir_fd=handle)
        os.mkdir(name, 0o700, dir_fd=handle)


def _listing(handle: int) -> list[tuple[bytes, bool]]:
    """Names in a folder, and whether each is a directory: as the folder says, since what is in it may be shut."""
    with os.scandir(handle) as found:
        return [(os.fsencode(entry.name), _is_directory(entry)) for entry in found]


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _read_ignore(handle: int) -> bytes:
    """The restored .torporignore of a folder; nothing if it is not there yet (a dry run)."""
    try:
        fd = os.open(IGNORE_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=handle)
    except OSError:
        return b""
    with os.fdopen(fd, "rb") as file:
        return file.read(1 << 20)
