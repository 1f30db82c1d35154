"""A host's words, made harmless: they are shown in terminals and kept in logs, and a host may be anybody's."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from torpor.errors import TorporError
from torpor.events import Event
from torpor.jobs import Result, show_text

S = TypeVar("S", bound=msgspec.Struct)


def plain(event: Event) -> Event:
    """The same, with what could steer a terminal escaped."""
    return _plain(event)


def plain_result(result: Result) -> Result:
    """The same of a result's words: notes, paths, names of problems."""
    return _plain(result)


def plain_error(error: TorporError) -> TorporError:
    return type(error)(show_text(error.what), safe=show_text(error.safe), remedy=show_text(error.remedy))


def _plain(struct: S) -> S:
    changed = {}
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        if (harmless := _harmless(value)) != value:
            changed[name] = harmless
    return msgspec.structs.replace(struct, **changed) if changed else struct


def _harmless(value: object) -> object:
    if isinstance(value, str):
        return show_text(value)
    if isinstance(value, list):
        return [_harmless(one) for one in value]
    if isinstance(value, dict):
        return {_harmless(key): _harmless(one) for key, one in value.items()}
    return value
