"""What a store's grants let a host do, and nothing more: `torpor.storage.transfer.Transfer`, sentence by sentence."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3

from torpor.errors import Damaged, StorageUnavailable, UsageError
from torpor.storage.base import BadName, Exists, GrantExpired, Missing, NotGranted
from torpor.storage.grants import join
from torpor.storage.transfer import Transfer
from torpor.testing.store_case import MIB, OTHER, PACK, SNAPSHOT, THREADS, FailingParts, StoreCase, many_parts, together

if TYPE_CHECKING:
    from torpor.jobs import Grant


class GrantSuite(StoreCase):
    def put_grant(self, *names: str, snapshot: str = SNAPSHOT, expires: float = 0) -> Grant:
        return self.store.grant_put(f"packs/{snapshot}/", expires, [f"packs/{name}" for name in names])

    def transfer(self, *names: str) -> Transfer:
        """May write and read these packs."""
        return Transfer(join(self.put_grant(*names), self.store.grant_get([f"packs/{name}" for name in names], 0)))

    def test_what_a_host_puts_the_control_side_gets(self) -> None:
        whole, parts = many_parts(5 * MIB)
        with self.transfer(PACK) as transfer:
            info = transfer.put(PACK, parts, blake3(whole).digest())
            transfer.sync([PACK])
            assert transfer.get(PACK) == whole
            assert transfer.get(PACK, 4 * MIB) == whole[4 * MIB :]
            assert transfer.get(PACK, 12_345, 67) == whole[12_345 : 12_345 + 67]
            out = bytearray(MIB)
            transfer.get_into(PACK, 3 * MIB, memoryview(out))
            assert out == whole[3 * MIB : 4 * MIB]
        assert self.raw_get("packs/" + PACK) == whole
        head = self.store.head("packs/" + PACK)
        assert head is not None
        assert (info.name, info.size, info.digest_kind, info.digest) == (PACK, len(whole), head.digest_kind, head.digest)

    def test_a_transfer_overwrites_nothing(self) -> None:
        """A store without conditional puts cannot promise that (names never used twice do); what is there must be whole."""
        texts = [b"first", b"other", b"longer than that", b""]
        with self.transfer(PACK) as transfer:
            transfer.put(PACK, [texts[0]], blake3(texts[0]).digest())
            for text in texts[1:]:
                if self.store.capabilities.conditional_put:
                    with pytest.raises(Exists):
                        transfer.put(PACK, [text], blake3(text).digest())
                    assert transfer.get(PACK) == texts[0]
                else:
                    transfer.put(PACK, [text], blake3(text).digest())
        assert self.raw_get("packs/" + PACK) in texts

    def test_a_put_whose_answer_was_lost_can_be_repeated(self) -> None:
        whole, parts = many_parts(3 * MIB)
        with self.transfer(PACK) as transfer:
            first = transfer.put(PACK, parts, blake3(whole).digest())
            assert transfer.put(PACK, parts, blake3(whole).digest()) == first
        assert self.raw_get("packs/" + PACK) == whole

    def test_of_many_transfers_at_once_one_wins(self) -> None:
        texts = [bytes([writer]) * 100_000 for writer in range(THREADS)]
        with self.transfer(PACK) as transfer:
            results = together([partial(transfer.put, PACK, [text], blake3(text).digest()) for text in texts])
        winners = [text for text, result in zip(texts, results, strict=True) if not isinstance(result, Exists)]
        assert self.raw_get("packs/" + PACK) in winners
        if self.store.capabilities.conditional_put:
            assert len(winners) == 1

    def test_a_put_of_a_host_that_fails_midway_leaves_nothing(self) -> None:
        with self.transfer(PACK) as transfer, pytest.raises(OSError, match="third part"):
            transfer.put(PACK, FailingParts(), bytes(32))
        assert self.names() == []

    @pytest.mark.parametrize("name", [f"{OTHER}/89abcdef-0", SNAPSHOT, f"{SNAPSHOT}0/89abcdef-0", "config.json"])
    def test_a_grant_covers_one_snapshot(self, name: str) -> None:
        with Transfer(self.put_grant(PACK)) as transfer:
            with pytest.raises(NotGranted) as caught:
                transfer.put(name, [b"x"], blake3(b"x").digest())
            assert not caught.value.retryable
        assert self.names() == []

    @pytest.mark.parametrize("name", ["../x", "../snapshots/x.json", f"{SNAPSHOT}/../x", f"{SNAPSHOT}/../../config.json", "/x", ""])
    def test_a_grant_has_no_way_out(self, name: str) -> None:
        with self.transfer(PACK) as transfer:
            attempts: list[Callable[[], object]] = [
                lambda: transfer.put(name, [b"x"], blake3(b"x").digest()),
                lambda: transfer.get(name),
                lambda: transfer.get_into(name, 0, memoryview(bytearray(1))),
                lambda: transfer.sync([name]),
            ]
            for attempt in attempts:
                with pytest.raises(BadName):
                    attempt()
        assert self.names() == []

    def test_a_grant_to_read_names_its_packs(self) -> None:
        other = f"{SNAPSHOT}/89abcdef-1"
        self.store.put("packs/" + PACK, b"granted")
        self.store.put("packs/" + other, b"not granted")
        with Transfer(self.store.grant_get(["packs/" + PACK], 0)) as transfer:
            assert transfer.get(PACK) == b"granted"
            with pytest.raises(NotGranted):
                transfer.get(other)
            with pytest.raises(NotGranted):
                transfer.get_into(other, 0, memoryview(bytearray(1)))
            with pytest.raises(NotGranted):
                transfer.put(f"{SNAPSHOT}/89abcdef-2", [b"x"], blake3(b"x").digest())

    def test_a_grant_to_write_reads_nothing(self) -> None:
        with Transfer(self.put_grant(PACK)) as transfer:
            transfer.put(PACK, [b"x"], blake3(b"x").digest())
            with pytest.raises(NotGranted):
                transfer.get(PACK)

    @pytest.mark.parametrize("prefix", ["packs/", "packs", "claims/", "snapshots/", f"packs/{SNAPSHOT}", f"packs/{SNAPSHOT}/a/", "/"])
    def test_grants_to_write_anything_else_are_not_made(self, prefix: str) -> None:
        with pytest.raises(UsageError):
            self.store.grant_put(prefix, 0)

    @pytest.mark.parametrize("name", ["config.json", "snapshots/a.json", "keys/a.json", "packsa/b"])
    def test_grants_to_read_anything_else_are_not_made(self, name: str) -> None:
        with pytest.raises(UsageError):
            self.store.grant_get(["packs/a/b", name], 0)

    def test_a_grant_ends(self) -> None:
        self.store.put("packs/" + PACK, b"x")
        new = f"{SNAPSHOT}/89abcdef-1"
        with Transfer(join(self.put_grant(new, expires=1.0), self.store.grant_get(["packs/" + PACK], 1.0))) as transfer:
            attempts: list[Callable[[], object]] = [
                lambda: transfer.put(new, [b"x"], blake3(b"x").digest()),
                lambda: transfer.get(PACK),
                lambda: transfer.get_into(PACK, 0, memoryview(bytearray(1))),
            ]
            for attempt in attempts:
                with pytest.raises(GrantExpired) as caught:
                    attempt()
                assert isinstance(caught.value, StorageUnavailable)
            transfer.renew(self.put_grant(new, expires=4e9))
            transfer.put(new, [b"x"], blake3(b"x").digest())
        assert self.raw_get("packs/" + new) == b"x"

    def test_a_transfer_names_what_is_short_or_absent(self) -> None:
        gone = f"{SNAPSHOT}/89abcdef-1"
        self.store.put("packs/" + PACK, b"0123456789")
        with self.transfer(PACK, gone) as transfer:
            for start, length in [(0, 11), (10, 1), (11, 0), (5, 1 << 40)]:
                with pytest.raises(Damaged, match=PACK):
                    transfer.get(PACK, start, length)
            with pytest.raises(Damaged, match=PACK):
                transfer.get_into(PACK, 5, memoryview(bytearray(6)))
            with pytest.raises(Missing, match=gone):
                transfer.get(gone)
            with pytest.raises(Missing, match=gone):
                transfer.get_into(gone, 0, memoryview(bytearray(1)))

    def test_many_threads_read_ranges_of_many_packs(self) -> None:
        names = [f"{SNAPSHOT}/89abcdef-{number}" for number in range(60)]
        for number, name in enumerate(names):
            self.store.put("packs/" + name, bytes([number]) * 1000)
        with self.transfer(*names) as transfer:

            def read(step: int) -> bool:
                number = step * 37 % len(names)
                out = bytearray(500)
                transfer.get_into(names[number], step % 500, memoryview(out))
                return out == bytes([number]) * 500

            with ThreadPoolExecutor(THREADS) as pool:
                assert all(pool.map(read, range(400)))
            transfer.close()
            assert transfer.get(names[7], 0, 1) == b"\7"
