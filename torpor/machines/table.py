"""Every kind of machine: scheme → module and class. One row and one file each; nothing is imported before it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from torpor.errors import MissingDependency, UsageError

if TYPE_CHECKING:
    from torpor.access import Access as Accounts
    from torpor.machines.base import Ground, Machine, Provider


class Row(NamedTuple):
    """`machine` is a class of `module`, called with what follows the scheme's colon and a `Ground`. `form`: how people write it.

    `provider`: `module:class` of who rents such machines out, called with a `Ground`; empty where nobody does. `extra`: the optional
    dependency group that these modules import. `account`: settings, any of which says that there is an account.
    """

    module: str
    machine: str
    form: str
    provider: str = ""
    extra: str = ""
    account: tuple[str, ...] = ()


ROWS = {
    "local": Row("torpor.machines.local", "LocalMachine", "local:NAME"),
    "ssh": Row("torpor.machines.ssh", "SshMachine", "ssh://user@host:port/absolute/path", extra="ssh"),
    "gce": Row(
        "torpor.machines.gce",
        "GceMachine",
        "gce:PROJECT/ZONE/NAME",
        "torpor.machines.gce_provider:GceProvider",
        "gce",
        ("GCE_PROJECT", "GOOGLE_CLOUD_PROJECT"),
    ),
    "vast": Row("torpor.machines.vast", "VastMachine", "vast:ID", "torpor.machines.vast_market:VastProvider", "vast", ("VAST_API_KEY",)),
}


def is_machine(text: str) -> bool:
    """Whether this names a machine rather than a path."""
    return text.partition(":")[0] in ROWS and ":" in text


def open_machine(address: str, ground: Ground) -> Machine:
    """The machine at `scheme:name`. Raises `UsageError`."""
    scheme, _, name = address.partition(":")
    if scheme not in ROWS or not name:
        raise UsageError(f"{address!r} is no machine.", remedy=f"Name one as {', '.join(row.form for row in ROWS.values())}.")
    row = ROWS[scheme]
    machine: Machine = _load(scheme, row.module, row.machine)(name, ground)
    return machine


def open_provider(scheme: str, ground: Ground) -> Provider:
    """Who rents machines of this kind out. Raises `UsageError` where nobody does, `MachineError` without an account."""
    row = ROWS.get(scheme)
    if row is None or not row.provider:
        raise UsageError(f"Nobody rents out machines of the kind {scheme!r}.", remedy=f"Say one of {', '.join(providers())}.")
    module, _, name = row.provider.partition(":")
    provider: Provider = _load(scheme, module, name)(ground)
    return provider


def _load(scheme: str, module: str, name: str) -> Callable[..., Any]:
    try:
        found: Callable[..., Any] = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        extra = ROWS[scheme].extra
        if not extra or (error.name or "").partition(".")[0] == "torpor":
            raise
        raise MissingDependency(
            f"Machines of the kind {scheme}: need the package {error.name}.", remedy=f'Run: pip install "torpor[{extra}]"'
        ) from error
    return found


def has_account(scheme: str, accounts: Accounts) -> bool:
    """Whether somebody set an account up for machines of this kind."""
    return bool(accounts.get(*ROWS[scheme].account))


def providers() -> list[str]:
    """The kinds of machines that can be rented."""
    return [scheme for scheme, row in ROWS.items() if row.provider]
