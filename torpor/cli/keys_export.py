"""torpor keys export: the keys as a file."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from torpor.cli.parameters import option
from torpor.errors import UsageError

if TYPE_CHECKING:
    from torpor.cli.session import Session

PARAMETERS = (
    option("--file", "FILE", "The file to write. It must not be there yet; only its owner can read it."),
    option("--passphrase-file", "FILE", "Put the keys under the passphrase in this file. Else TORPOR_PASSPHRASE, else no passphrase."),
)


def run(session: Session, file: str | None, passphrase_file: str | None) -> int:
    """Without a passphrase, whoever reads the file and the store can read every snapshot and write as you."""
    from torpor.cli.secret import passphrase
    from torpor.control import keys

    if not file:
        raise UsageError("No file was given.", remedy="torpor keys export --file KEYS.json")
    repository = session.repository()
    secret = passphrase(session.settings, passphrase_file)
    data = json.dumps(keys.to_text(repository.private(), secret), indent=1) + "\n"
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UsageError(f"{file} is there already.", safe="It was left as it is.", remedy="Name another file.") from None
    except OSError as error:
        raise UsageError(f"{file} can't be written: {error.strerror}.", remedy="Name a file in a folder of yours.") from None
    with os.fdopen(fd, "w", encoding="utf-8") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    if not secret:
        session.warn("The keys in it are not under a passphrase.")
    session.say(f"wrote the keys of repository {repository.id[:8]} to {file}")
    session.answer({"repository": repository.id, "file": os.path.abspath(file), "under_passphrase": bool(secret)})
    return 0
