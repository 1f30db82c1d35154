"""torpor keys show: the recovery key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.errors import KeysMissing

if TYPE_CHECKING:
    from torpor.cli.session import Session

PARAMETERS = ()


def run(session: Session) -> int:
    """Whoever has it and can read the store can read every snapshot. It goes to standard output."""
    from torpor.format.recovery import encode

    repository = session.repository()
    keys = repository.private()
    if not keys.recovery:
        raise KeysMissing(
            "The recovery key is not known here: only the private keys were imported.",
            remedy="Look for the paper, or for a computer where `torpor keys show` prints it.",
        )
    text = encode(keys.recovery)
    if not session.json:
        session.say(text)
    session.note(f"repository {repository.id} at {repository.store.url}; " + ("confirmed" if keys.confirmed else "not confirmed yet"))
    session.answer({
        "repository": repository.id, "storage": repository.store.url, "key": keys.id, "recovery_key": text, "confirmed": keys.confirmed,
        "encryption": repository.config.encryption, "file": str(repository.home.keys(repository.id)),
    })  # fmt: skip
    return 0
