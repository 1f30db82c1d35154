"""torpor keys import: a repository's keys, onto this computer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from torpor.cli.parameters import option
from torpor.errors import UsageError

if TYPE_CHECKING:
    from torpor.cli.session import Session
    from torpor.control.keys import Keyset
    from torpor.control.repository import Repository

PARAMETERS = (
    option("--recovery-key-file", "FILE", "Read the recovery key from this file. Else TORPOR_RECOVERY_KEY, else it is asked for."),
    option("--file", "FILE", "Take the keys from a file that `torpor keys export` wrote."),
    option("--passphrase-file", "FILE", "The passphrase that --file is under. Else TORPOR_PASSPHRASE."),
)


def run(session: Session, recovery_key_file: str | None, file: str | None, passphrase_file: str | None) -> int:
    """The store and the recovery key are all that a second computer needs. The key is never an argument: those can be seen by others."""
    from torpor.control.repository import import_keys

    if file and recovery_key_file:
        raise UsageError("--file and --recovery-key-file exclude each other.")
    repository = session.repository()
    keys = _from_file(session, file, passphrase_file) if file else _from_recovery(session, repository, recovery_key_file)
    import_keys(repository, keys)
    where = repository.home.keys(repository.id)
    session.say(f"the keys of repository {repository.id[:8]} are now in {where}")
    session.answer({"repository": repository.id, "key": keys.id, "file": str(where)})
    return 0


def _from_file(session: Session, file: str, passphrase_file: str | None) -> Keyset:
    from torpor.cli.secret import passphrase, read
    from torpor.control import keys

    try:
        data = json.loads(read(file))
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise UsageError(f"{file} is not a file of keys.", remedy="`torpor keys export` writes one.")
    return keys.from_text(data, passphrase(session.settings, passphrase_file))


def _from_recovery(session: Session, repository: Repository, file: str | None) -> Keyset:
    from torpor.cli.secret import ask, read
    from torpor.control.repository import from_recovery
    from torpor.format import recovery

    text = read(file) if file else session.settings.recovery_key.reveal() or ask("Recovery key (not shown): ", hidden=True)
    return from_recovery(repository.store, repository.config, recovery.decode(text))
