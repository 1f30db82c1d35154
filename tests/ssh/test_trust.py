"""Files of known hosts, as OpenSSH writes them; and keys that are made here."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from torpor.access import Access
from torpor.errors import UsageError
from torpor.ssh import keys, trust
from torpor.ssh.base import Target
from torpor.ssh.defaults import defaults

A, B, C = (keys.make().public for _ in range(3))


def hosts(tmp_path: Path, text: str) -> list[Path]:
    (tmp_path / "hosts").write_text(text)
    return [tmp_path / "hosts"]


def test_lines(tmp_path: Path) -> None:
    files = hosts(
        tmp_path,
        f"# a comment\n\nhost,alias {A} me@home\n[host]:2222 {B}\nhost {B}\nother\n@cert-authority * {C}\n"
        f"*.example,!no.example {C}\nx?z {A}\n@revoked * {B}\n",
    )
    assert trust.known(files, "host", 22) == [A]
    assert trust.known(files, "HOST", 22) == [A]
    assert trust.known(files, "alias", 22) == [A]
    assert trust.known(files, "host", 2222) == []  # it was revoked
    assert trust.known(files, "a.example", 22) == [C]
    assert trust.known(files, "no.example", 22) == []
    assert trust.known(files, "xyz", 22) == [A]
    for host in ("other", "hos", "host2", "xyyz", ""):
        assert trust.known(files, host, 22) == []
    assert trust.known([tmp_path / "none"], "host", 22) == []


def test_names_that_are_hashed(tmp_path: Path) -> None:
    """By OpenSSH itself."""
    (file,) = hosts(tmp_path, f"host {A}\n[host]:2222 {B}\n[10.0.0.1]:22001 {C}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    assert "host" not in file.read_text()
    assert trust.known([file], "host", 22) == [A]
    assert trust.known([file], "host", 2222) == [B]
    assert trust.known([file], "10.0.0.1", 22001) == [C]
    assert trust.known([file], "host", 2223) == []


@pytest.mark.parametrize("names", ["|1|", "|1|x|y", "|1|@|@", "|2|AAAA|AAAA", "|1|AAAA|AAAA|AAAA"])
def test_odd_names(names: str, tmp_path: Path) -> None:
    assert trust.known(hosts(tmp_path, f"{names} {A}\nhost {B}\n"), "host", 22) == [B]


def test_the_first_file_that_knows_it_counts(tmp_path: Path) -> None:
    trust.pin(tmp_path / "a", "host", 22, A)
    trust.pin(tmp_path / "b", "host", 22, B)
    trust.pin(tmp_path / "b", "other", 22, C)
    files = [tmp_path / "a" / trust.FILE, tmp_path / "b" / trust.FILE]
    assert trust.known(files, "host", 22) == [A]
    assert trust.known(files, "other", 22) == [C]


def test_a_pin_replaces_the_one_before(tmp_path: Path) -> None:
    trust.pin(tmp_path, "host", 22, A)
    trust.pin(tmp_path, "host", 2222, B)
    trust.pin(tmp_path, "HOST", 22, f"{C} with a comment")
    file = tmp_path / trust.FILE
    assert file.read_text() == f"[host]:2222 {B}\nhost {C}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    found = subprocess.run(["ssh-keygen", "-F", "[host]:2222", "-f", file], check=True, capture_output=True, text=True)
    assert B in found.stdout
    for text in ("", "ssh-ed25519", "ssh-ed25519 é", "host ssh-ed25519"):
        with pytest.raises(UsageError):
            trust.pin(tmp_path, "host", 22, text)


def test_pins_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: trust.pin(tmp_path, f"host{number}", 22, A), range(24)))
    assert all(trust.known([tmp_path / trust.FILE], f"host{number}", 22) == [A] for number in range(24))


def test_keys_are_what_openssh_reads(tmp_path: Path) -> None:
    pair = keys.make()
    keys.write_private(tmp_path / "key", pair.private)
    shown = subprocess.run(["ssh-keygen", "-y", "-f", tmp_path / "key"], check=True, capture_output=True, text=True).stdout
    assert shown.strip() == pair.public == keys.public_of(pair.private)
    mark = subprocess.run(["ssh-keygen", "-l", "-f", tmp_path / "key"], check=True, capture_output=True, text=True).stdout
    assert mark.split()[1] == keys.fingerprint(pair.public)
    assert pair.private not in repr(pair)
    with pytest.raises(FileExistsError):
        keys.write_private(tmp_path / "key", "")


def test_one_login_key_a_home(tmp_path: Path) -> None:
    folder = tmp_path / "machines"
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: keys.login_key(folder), range(8)))
    (path,) = paths
    text = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert sorted(file.name for file in folder.iterdir()) == ["id_ed25519", "id_ed25519.pub"]
    assert path.with_suffix(".pub").read_text().strip() == keys.public_of(text)
    assert keys.login_key(folder).read_text() == text


def test_which_key_is_shown_to_whom(tmp_path: Path) -> None:
    """To a machine that was made with this home's key, none of the user's."""
    made, found = Target(host="h", host_key=A), Target(host="h")
    assert defaults(found, tmp_path, Access()).identity == defaults(made, tmp_path, Access()).identity == ""
    own = str(keys.login_key(tmp_path))
    assert defaults(made, tmp_path, Access()).identity == own
    assert (defaults(found, tmp_path, Access()).identity, defaults(found, tmp_path, Access()).own) == ("", own)
    named = Access({"TORPOR_SSH_KEY": "/key"})
    assert defaults(made, tmp_path, named).identity == defaults(found, tmp_path, named).identity == "/key"
    assert defaults(Target(host="h", identity="/mine"), tmp_path, named).identity == "/mine"
