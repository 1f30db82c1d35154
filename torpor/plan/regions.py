"""Where in the world: groups of countries by short names, so that a machine is near its bucket. Pure."""

from __future__ import annotations

import re

from torpor.errors import UsageError

_EU = (
    "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"  # the Union
    " IS LI NO"  # and the rest of the EEA, which has its rules on data
)
_WORDS = {
    "eu": _EU,
    "europe": f"{_EU} AD AL BA BY CH FO GB GE GI IM JE MC MD ME MK RS SM UA VA XK",
    "na": "CA MX US PR",
    "sa": "AR BO BR CL CO CR EC GT PA PE PY UY VE",
    "asia": "BD BN CN HK ID IN JP KH KR KZ LK MN MO MY NP PH PK SG TH TW UZ VN",
    "oceania": "AU FJ NZ",
    "me": "AE BH CY EG IL IQ JO KW LB OM QA SA TR",
    "africa": "DZ EG GH KE MA NG RW SN TN TZ UG ZA",
}
GROUPS = {name: frozenset(words.split()) for name, words in _WORDS.items()}


def countries(region: str) -> frozenset[str]:
    """The countries of a region, as two letters each; empty for anywhere. Raises `UsageError` for what is neither."""
    text = region.strip()
    if not text:
        return frozenset()
    if text.lower() in GROUPS:
        return GROUPS[text.lower()]
    if re.fullmatch(r"[A-Za-z]{2}", text):
        return frozenset({text.upper()})
    raise UsageError(
        f"{region[:40]!a} is no region.", remedy=f"Say a country by its two letters (US), or one of {', '.join(sorted(GROUPS))}."
    )
