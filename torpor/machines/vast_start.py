"""What a new instance of vast.ai does first: take the host key that is pinned here, and let our key log in.

Its script goes to the service with the request, is kept there, and runs at each start. The key in it is that one machine's own and opens
nothing else; whoever can read it, the service and the host's owner, is root on that machine anyway.
"""

from __future__ import annotations

import shlex

from torpor.errors import UsageError
from torpor.machines.base import HostIdentity

LONGEST = 4096  # characters that the service takes

# Other host keys go, so that none can be offered but the one that is pinned. Login shells would land in tmux but for the first line.
_SCRIPT = """\
touch ~/.no_auto_tmux
umask 077
mkdir -p ~/.ssh /etc/ssh
rm -f /etc/ssh/ssh_host_*
printf '%s\\n' {private} >/etc/ssh/ssh_host_ed25519_key
printf '%s\\n' {public} >/etc/ssh/ssh_host_ed25519_key.pub
line={login}
grep -qxF "$line" ~/.ssh/authorized_keys 2>/dev/null || printf '%s\\n' "$line" >>~/.ssh/authorized_keys
pid=$(cat /run/sshd.pid 2>/dev/null || pgrep -o -x sshd) && kill -HUP "$pid" || true
"""


def script(keys: HostIdentity) -> str:
    """Raises `UsageError` for keys that are not what they should be, or too long."""
    private = keys.private.strip()
    if not private.startswith("-----BEGIN OPENSSH PRIVATE KEY-----"):
        raise UsageError("The host key is no OpenSSH key.")
    if any(not line.isprintable() or not line for line in (keys.public, keys.login)):
        raise UsageError("A public key is one line.")
    made = _SCRIPT.format(private=shlex.quote(private), public=shlex.quote(keys.public), login=shlex.quote(keys.login))
    if len(made) > LONGEST:
        raise UsageError(f"The keys are too long for vast.ai, which takes {LONGEST} characters.", remedy="Use ed25519 keys.")
    return made
