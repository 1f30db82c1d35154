from __future__ import annotations

import sys

import pytest

from tests.architecture.house import python
from torpor.codecs import table
from torpor.errors import Malformed, MissingDependency, UsageError
from torpor.format import version


def test_rows_are_sorted_and_agree_with_the_format() -> None:
    ids = [row.id for row in table.ROWS]
    assert ids == sorted(set(ids))
    assert len({row.name for row in table.ROWS}) == len(table.ROWS)
    named = {name.removeprefix("CODEC_").lower(): value for name, value in vars(version).items() if name.startswith("CODEC_")}
    assert {row.name: row.id for row in table.ROWS} == {n: i for n, i in named.items() if n not in ("nvans", "hole")}


@pytest.mark.parametrize("row", table.ROWS, ids=lambda row: row.name)
def test_a_row_leads_to_its_codec(row: table.Row) -> None:
    codec = table.by_id(row.id)
    assert (codec.id, codec.name) == (row.id, row.name)
    assert table.by_name(row.name) is codec


@pytest.mark.parametrize("id", [version.CODEC_NVANS, 77, version.CODEC_HOLE])
def test_an_unknown_id_is_refused(id: int) -> None:
    with pytest.raises(Malformed, match=f"codec {id}"):
        table.by_id(id)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UsageError, match="raw, zstd, lz4, planes"):
        table.by_name("brotli")


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torpor.codecs.lz4", raising=False)
    monkeypatch.setitem(sys.modules, "lz4", None)
    monkeypatch.setitem(sys.modules, "lz4.block", None)
    row = next(row for row in table.ROWS if row.name == "lz4")
    table.by_id.cache_clear()
    with pytest.raises(MissingDependency, match="pip install lz4"):
        table.by_id(row.id)


def test_importing_the_rooms_modules_leaves_numpy_alone() -> None:
    names = ("table", "choose", "planes", "header", "arrays", "entropy")
    loaded = python("import sys\n" + "".join(f"import torpor.codecs.{n}\n" for n in names) + "print('numpy' in sys.modules)")
    assert loaded.strip() == "False"
