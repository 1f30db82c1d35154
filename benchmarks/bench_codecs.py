"""How fast codecs are and how far they shrink what: GB/s of raw bytes by one and by two threads, on chunks of 4 MiB.

./dev bench codecs [--save NAME]    a table, in less than half a minute
"""

from __future__ import annotations

import json
import time

from benchmarks.measure import options, save, table
from torpor.bench.compute import WIDTHS, decoder, encoder
from torpor.bench.timing import speed
from torpor.codecs.base import NO_HINT, Codec, Hint, Scratch
from torpor.codecs.choose import Chooser
from torpor.codecs.table import ROWS, by_id
from torpor.testing import samples

SECONDS = 0.12  # of one measurement
COLUMNS = ("ratio", "encode_1", "encode_2", "decode_1", "decode_2")

Result = dict[str, str | float | None]


def measure(codec: Codec, raw: bytes, hint: Hint) -> Result:
    """Ratio, and GB/s by threads."""
    found = codec.encode(raw, Scratch(), hint)
    if found is None:
        return {"ratio": 1.0, "encode_1": speed(lambda: encoder(codec, raw, hint), len(raw), 1, SECONDS)}
    coded = bytes(found)
    result: Result = {"ratio": len(raw) / len(coded)}
    for threads in (1, 2):
        result[f"encode_{threads}"] = speed(lambda: encoder(codec, raw, hint), len(raw), threads, SECONDS)
        result[f"decode_{threads}"] = speed(lambda: decoder(codec, coded, len(raw)), len(raw), threads, SECONDS)
    return result


def results() -> list[Result]:
    """One a kind of data and codec; `chosen`: torpor takes this codec for it; `choose_us`: microseconds to find that out."""
    found: list[Result] = []
    for kind, raw in samples.kinds().items():
        chosen, _ = Chooser().choose(raw)
        began = time.perf_counter()
        Chooser().choose(raw)
        look = (time.perf_counter() - began) * 1e6
        for row in ROWS:
            if row.name == "raw":
                continue  # a copy
            hint = Hint(WIDTHS[kind]) if row.name == "planes" and kind in WIDTHS else NO_HINT
            mark: Result = {"data": kind, "codec": row.name, "chosen": float(row.name == chosen.name), "choose_us": look}
            found.append(mark | measure(by_id(row.id), raw, hint))
    return found


def main() -> None:
    given = options(__doc__, folder=False).parse_args()
    found = results()
    rows = [
        [f"{result['data']}, {result['codec']}{' *' if result['chosen'] else ''}", *(_cell(result.get(column)) for column in COLUMNS)]
        for result in found
    ]
    print(json.dumps({"results": found}) if given.json else table(["GB/s; * chosen by torpor", *COLUMNS], rows))
    if given.save:
        save(f"codecs-{given.save}", {"results": found})


def _cell(value: str | float | None) -> str:
    return f"{value:.2f}" if isinstance(value, float) else "-"


if __name__ == "__main__":
    main()
