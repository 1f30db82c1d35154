"""A made-up virtual environment: very many files, of the sizes and kinds that packages have, the same for the same seed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIB = 1024
_LONGEST = 8 * KIB * KIB
_LETTERS = "etaoinsrhldcumfpgwybvkxjqz_"
_PACKAGE = 60  # files of a package, about
_ZIPF = 0.3  # the exponent of the law: with it, zstd shrinks code to a fifth and machine code to a third, as it does real ones


class Kind(NamedTuple):
    """Files with one ending: their part of all, and sizes around `median` bytes (a log-normal law with deviation `spread`)."""

    ending: str
    part: float
    median: int
    spread: float
    content: str  # code, binary, noise, nothing


KINDS = (
    Kind(".py", 0.68, 3 * KIB, 1.4, "code"),
    Kind(".pyi", 0.08, 1 * KIB, 1.2, "code"),
    Kind(".txt", 0.08, 1 * KIB, 1.5, "code"),
    Kind(".h", 0.07, 4 * KIB, 1.2, "code"),
    Kind("_init.py", 0.06, 0, 0.0, "nothing"),
    Kind(".so", 0.015, 160 * KIB, 1.3, "binary"),
    Kind(".png", 0.015, 16 * KIB, 1.0, "noise"),
)


def virtual_environment(root: Path, count: int, seed: int = 0) -> int:
    """Make `count` files below `root`, about 12 KiB each on average; their bytes together are returned.

    Each package has words and phrases of its own, so that files of one are alike, and packages are not.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    parts = np.array([kind.part for kind in KINDS])
    common = _words(generator, 300)
    machine = _snippets(generator, 3000)
    total = made = package = 0
    while made < count:
        folder = root / "lib" / "python3" / "site-packages" / f"package{package:04d}"
        code = _Prose(generator, common + _words(generator, 500))
        binary = _Prose(generator, machine)
        room = min(count - made, int(_PACKAGE * generator.lognormal(-0.3, 0.8)) + 1)
        for number, choice in enumerate(generator.choice(len(KINDS), room, p=parts / parts.sum())):
            kind = KINDS[choice]
            if number % 20 == 0:
                below = folder if number == 0 else folder / f"part{number // 20}"
                below.mkdir(parents=True, exist_ok=True)
            size = min(_LONGEST, int(generator.lognormal(0, kind.spread) * kind.median))
            data = b""
            if kind.content == "noise":
                data = generator.bytes(size)
            elif kind.content != "nothing":
                data = (binary if kind.content == "binary" else code).write(size)
            fd = os.open(below / f"module{number:03d}{kind.ending}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            with os.fdopen(fd, "wb", buffering=0) as file:
                file.write(data)
            total += len(data)
        made += room
        package += 1
    return total


class _Prose:
    """Writes pieces of a vocabulary, the first ones most often (by Zipf's law), and phrases that recur."""

    def __init__(self, generator: np.random.Generator, pieces: list[bytes]) -> None:
        import numpy as np

        self._generator = generator
        phrases = [
            b"".join(pieces[i] for i in generator.integers(0, len(pieces), generator.integers(2, 6))) for _ in range(len(pieces) // 2)
        ]
        self._pieces = [piece for pair in zip(pieces[: len(phrases)], phrases, strict=True) for piece in pair] + pieces[len(phrases) :]
        weights = (np.arange(2, len(self._pieces) + 2) ** -_ZIPF).astype(np.float64)
        self._law: NDArray[np.float64] = np.cumsum(weights / weights.sum())
        self._law[-1] = 1.0
        self._length = float(np.dot(np.diff(self._law, prepend=0.0), [len(piece) for piece in self._pieces]))

    def write(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        out = b""
        while len(out) < size:
            count = int((size - len(out)) / self._length * 1.1) + 8
            found = self._law.searchsorted(self._generator.random(count))
            pieces = self._pieces
            out += b"".join([pieces[i] for i in found.tolist()])
        return out[:size]


def _words(generator: np.random.Generator, count: int) -> list[bytes]:
    """Words as code has them, each with what follows it: a space, a bracket, the end of a line and an indent."""
    ends = [" ", " ", " ", ".", "(", ")\n    ", ", ", " = ", ":\n        ", "\n    ", "\n\n"]
    words = []
    for _ in range(count):
        letters = generator.integers(0, len(_LETTERS), generator.integers(2, 12))
        words.append(("".join(_LETTERS[i] for i in letters) + ends[generator.integers(0, len(ends))]).encode())
    return words


def _snippets(generator: np.random.Generator, count: int) -> list[bytes]:
    """Short runs of bytes as machine code has them, small numbers and zeros among them."""
    found = []
    for _ in range(count):
        length = int(generator.integers(2, 9))
        low = bool(generator.integers(0, 3) == 0)
        found.append(bytes(length // 2) + generator.bytes(length - length // 2) if low else generator.bytes(length))
    return found
