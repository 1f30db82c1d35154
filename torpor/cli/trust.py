"""torpor trust: believe the host key of an SSH host."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from torpor.cli.parameters import argument, option
from torpor.errors import UsageError

if TYPE_CHECKING:
    from torpor.cli.session import Session

PARAMETERS = (
    argument("HOST", "ssh://user@host:port, with or without a path."),
    option("--fingerprint", "SHA256:…", "The fingerprint that the host's own console shows: the key is believed if it has that one."),
)


def run(session: Session, host: str, fingerprint: str | None) -> int:
    """Shows the fingerprint of the key that the host has. On a terminal it asks whether that is right; nothing is sent to the host.

    A host whose key is in ~/.ssh/known_hosts is known already.
    """
    from torpor.control.home import Home
    from torpor.machines import ssh_place
    from torpor.ssh import keys, link, trust
    from torpor.ssh.defaults import known_files

    scheme, _, rest = host.partition(":")
    if scheme != "ssh":
        raise UsageError(f"{host!a} is no SSH host.", remedy=f"Write {ssh_place.FORM}; the keys of rented machines are known already.")
    place = ssh_place.parse(rest)
    folder, accounts = Home(session.settings.home).machines, session.settings.access
    files = known_files(folder, accounts)
    known = trust.known(files, place.host, place.port)
    key = link.shown(place.host, place.port)
    mark = keys.fingerprint(key)
    session.say(f"{place.server}: {key.split()[0]} {mark}")
    new = key not in known
    if new:
        if named := accounts.get("TORPOR_KNOWN_HOSTS"):
            raise UsageError(
                f"TORPOR_KNOWN_HOSTS names the file that counts: {named}.", safe="Nothing was changed.",
                remedy=f"If that is the host's fingerprint, add this line to it: {trust.name_of(place.host, place.port)} {key}",
            )  # fmt: skip
        if known:
            session.warn(f"until now it had another key: {', '.join(map(keys.fingerprint, known))}")
        _agree(place.server, mark, fingerprint)
        trust.pin(folder, place.host, place.port, key)
    elif fingerprint:
        _agree(place.server, mark, fingerprint)
    session.note("it is trusted from now on" if new else "it was trusted already")
    session.answer({"address": f"ssh://{place.server}", "key": key, "fingerprint": mark, "new": new})
    return 0


def _agree(whom: str, mark: str, fingerprint: str | None) -> None:
    from torpor.ssh.base import HostKeyMismatch

    if fingerprint is not None:
        if fingerprint.strip().rstrip("=") != mark:
            raise HostKeyMismatch(
                f"The host key of {whom} is {mark}, and not {fingerprint.strip()}.",
                safe="Nothing was changed, and nothing sent to it.",
                remedy="Somebody else may answer at this address. Look again on the host's console.",
            )
        return
    if not sys.stdin.isatty():
        raise UsageError(
            "Nobody is here to be asked.", safe="Nothing was changed.",
            remedy="Compare the fingerprint on the host, and give it with --fingerprint.",
        )  # fmt: skip
    print("Does the host's own console show the same? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("Not confirmed.", safe="Nothing was changed.")
