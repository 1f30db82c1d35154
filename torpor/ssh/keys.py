"""SSH keys made here: ed25519, in the forms that OpenSSH reads."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

import msgspec

FILE = "id_ed25519"


class Pair(msgspec.Struct, frozen=True):
    """`private`: OpenSSH's PEM, never printed. `public`: `ssh-ed25519 AAAA…`, without a comment."""

    private: str
    public: str

    def __repr__(self) -> str:
        return f"Pair({self.public})"


def make() -> Pair:
    """A new pair: a host's identity, or a key to log in with."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    encoding = serialization.Encoding
    private = key.private_bytes(encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    public = key.public_key().public_bytes(encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return Pair(private.decode("ascii"), public.decode("ascii"))


def login_key(folder: Path) -> Path:
    """The private key that this home logs in with, at `folder`/id_ed25519; its public half is beside it, as `.pub`.

    Made at the first call, mode 600; of several processes that call at once, one makes it, and all get the same.
    """
    path = folder / FILE
    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = folder / f".{FILE}.{secrets.token_hex(4)}"
        try:
            write_private(temporary, make().private)
            with suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    public = path.with_suffix(".pub")
    if not public.exists():
        public.write_text(public_of(path.read_text(encoding="ascii")) + "\n", encoding="ascii")
    return path


def public_of(private: str) -> str:
    """`ssh-ed25519 AAAA…` of a private key in OpenSSH's PEM. Raises `ValueError`, of an encrypted one too."""
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_ssh_private_key(private.encode(), None)
    except TypeError as error:
        raise ValueError("the key has a passphrase") from error
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return public.decode("ascii")


def write_private(path: Path, text: str) -> None:
    """A new file of mode 600, on disk when this returns. Raises `FileExistsError`."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def fingerprint(public: str) -> str:
    """`SHA256:…` of `ssh-ed25519 AAAA…`, as ssh-keygen shows it. Raises `ValueError`."""
    fields = public.split()
    if len(fields) < 2:
        raise ValueError("no public key")
    digest = hashlib.sha256(base64.b64decode(fields[1], validate=True)).digest()
    return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")
