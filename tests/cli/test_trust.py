"""torpor trust, on a real host."""

from __future__ import annotations

from pathlib import Path

from tests.cli.door import Cli
from tests.emulators.sshd import Sshd
from torpor.ssh import keys, trust


def test_trust(cli: Cli, tmp_path: Path) -> None:
    with Sshd(tmp_path / "machine") as host:
        address = f"ssh://{host.user}@127.0.0.1:{host.port}{host.root.decode()}"
        mark = keys.fingerprint(host.host_key)
        cli.extra["TORPOR_SSH_KEY"] = host.target.identity
        error = cli.fails(19, "snapshot", address)
        assert error["error"] == "HostKeyUnknown"
        assert mark in error["what"]

        assert cli.fails(2, "trust", address)["what"] == "Nobody is here to be asked."
        assert "is not" not in cli.fails(19, "trust", address, "--fingerprint", keys.fingerprint(keys.make().public))["safe"]
        assert trust.known([cli.home / "machines" / trust.FILE], "127.0.0.1", host.port) == []
        assert host.logins == 0

        told = cli.json("trust", address, "--fingerprint", mark)
        assert told == {"address": address.removesuffix(host.root.decode()), "key": host.host_key, "fingerprint": mark, "new": True}
        assert cli.json("trust", address)["new"] is False
        assert (cli.home / "machines" / trust.FILE).stat().st_mode & 0o777 == 0o600

        host.change_host_key()
        error = cli.fails(19, "snapshot", address)
        assert error["error"] == "HostKeyMismatch"
        done = cli.run("trust", address, "--fingerprint", keys.fingerprint(host.host_key))
        assert done.code == 0
        assert f"another key: {mark}" in done.err
        assert host.logins == 0

        hosts = tmp_path / "hosts"
        hosts.write_text("")
        cli.extra["TORPOR_KNOWN_HOSTS"] = str(hosts)
        error = cli.fails(2, "trust", address)
        assert error["remedy"].endswith(f"[127.0.0.1]:{host.port} {host.host_key}")
    cli.fails(2, "trust", "local:x")
    cli.fails(2, "trust", "ssh://host:99999")
