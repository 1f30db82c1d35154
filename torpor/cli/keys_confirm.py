"""torpor keys confirm: prove that the recovery key was written down."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torpor.cli.session import Session

PARAMETERS = ()


def run(session: Session) -> int:
    """Asks for the recovery key, or reads it from standard input. No machine is destroyed before that was done once.

    Keys that are missing in the store, or damaged there, are put there again.
    """
    import msgspec

    from torpor.cli.secret import ask
    from torpor.control import keys, recoverable

    repository = session.repository()
    known = repository.private()
    confirmed = keys.confirm(repository.home, known, ask("Recovery key: "), session.settings.passphrase)
    if recoverable.put_again(msgspec.structs.replace(repository, keys=confirmed)):
        session.warn("The keys in the store were missing or damaged; they are there again, wrapped under the recovery key.")
    session.say("That is the recovery key. Keep it well.")
    session.answer({"repository": repository.id, "confirmed": confirmed.confirmed})
    return 0
