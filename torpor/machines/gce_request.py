"""What a new instance is asked to be: its disk, network, keys, labels, and the script of its first start. Pure."""

from __future__ import annotations

import hashlib
import math
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from torpor.errors import UsageError
from torpor.machines.gce_place import WORKSPACE
from torpor.machines.lease import parse as parse_label

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torpor.access import Access
    from torpor.machines.base import HostIdentity
    from torpor.machines.gce_place import Place
    from torpor.machines.lease import Label, Lease

USER = "torpor"
LEASE, UNTIL, KEPT = "torpor", "torpor-until", "kept"  # labels: keys and values are small letters, digits, - and _
HOST_KEY, DISK_TYPE, SCRIPT = "torpor-host-key", "torpor-disk-type", "startup-script"  # of the metadata

_GIB = 1 << 30
_TELL = "http://metadata.google.internal/computeMetadata/v1/instance/guest-attributes/torpor/ready"


class Kind(NamedTuple):
    """What is rented: a machine type, perhaps a spot one, perhaps with GPUs attached that the type itself has not."""

    zone: str
    type: str
    spot: bool = False
    accelerators: str = ""

    @property
    def id(self) -> str:
        return f"{self.zone}/{self.type}{'+' + self.accelerators if self.accelerators else ''}{'/spot' if self.spot else ''}"


def kind_of(offer: str) -> Kind:
    """The kind that an offer's id names: `ZONE/TYPE[+ACCELERATOR:N][/spot]`. Raises `UsageError`."""
    zone, _, rest = offer.partition("/")
    rest, _, spot = rest.partition("/")
    name, _, accelerators = rest.partition("+")
    if not zone or not name or spot not in ("", "spot"):
        raise UsageError(f"{offer!r} is no offer of Google Compute Engine.", remedy="Write ZONE/TYPE or ZONE/TYPE/spot.")
    return Kind(zone, name, bool(spot), accelerators)


def disk_gb(accounts: Access, wanted: int) -> int:
    """The size of the disk, as Google counts: of `GCE_DISK_GB` (100), or enough for `wanted` bytes."""
    text = accounts.get("GCE_DISK_GB") or "100"
    if not text.isascii() or not text.isdigit() or not 10 <= int(text) <= 65536:
        raise UsageError(f"GCE_DISK_GB={text} is no size of a disk.", remedy="Write a number of GB from 10 to 65536.")
    return max(int(text), math.ceil(wanted / _GIB))


def disk_type(accounts: Access) -> str:
    return accounts.get("GCE_DISK_TYPE") or "pd-balanced"


def labels(lease: Lease, kept: bool = False) -> dict[str, str]:
    return {LEASE: lease.id, UNTIL: KEPT if kept else str(lease.until)}


def label_of(found: Mapping[str, str]) -> Label | None:
    """None where the labels are not torpor's, or were changed by hand."""
    return parse_label(f"torpor-{found.get(LEASE, '')}-{found.get(UNTIL, '')}")


def request_id(lease: Lease, kind: Kind) -> str:
    """The same for every try to make this machine for this lease, in whatever process: Google makes one."""
    return str(uuid.UUID(bytes=hashlib.sha256(f"torpor {lease.id} {kind.id}".encode()).digest()[:16], version=4))


def resource(place: Place, kind: Kind, size: int, lease: Lease, keys: HostIdentity, accounts: Access) -> dict[str, Any]:
    """The instance as `google.cloud.compute_v1.Instance` takes it. It has no service account: nothing of the project's is on it."""
    zone = f"zones/{kind.zone}"
    image = accounts.get("GCE_GPU_IMAGE" if is_gpu(kind) else "GCE_IMAGE", "GCE_IMAGE")
    network: dict[str, Any] = {"network": accounts.get("GCE_NETWORK") or "global/networks/default"}
    if subnetwork := accounts.get("GCE_SUBNETWORK"):
        network = {"subnetwork": subnetwork}
    metadata = {
        "ssh-keys": f"{USER}:{keys.login}",
        "block-project-ssh-keys": "TRUE",
        "enable-oslogin": "FALSE",
        "enable-guest-attributes": "TRUE",
        HOST_KEY: keys.public,
        DISK_TYPE: disk_type(accounts),
        SCRIPT: script(keys),
    }
    made: dict[str, Any] = {
        "name": place.name,
        "machine_type": f"{zone}/machineTypes/{kind.type}",
        "scheduling": _scheduling(kind),
        "labels": labels(lease),
        "metadata": {"items": [{"key": key, "value": value} for key, value in metadata.items()]},
        "disks": [
            {
                "boot": True,
                "auto_delete": True,
                "initialize_params": {
                    "disk_size_gb": size,
                    "disk_type": f"{zone}/diskTypes/{disk_type(accounts)}",
                    "source_image": image or "projects/debian-cloud/global/images/family/debian-13",
                    "labels": {LEASE: lease.id},
                },
            }
        ],
        "network_interfaces": [network | {"access_configs": [{"name": "External NAT", "type_": "ONE_TO_ONE_NAT"}]}],
    }
    if kind.accelerators:
        name, _, count = kind.accelerators.partition(":")
        made["guest_accelerators"] = [{"accelerator_type": f"{zone}/acceleratorTypes/{name}", "accelerator_count": int(count or 1)}]
    return made


def is_gpu(kind: Kind) -> bool:
    """Families A and G have GPUs of their own; N1 gets them attached."""
    return bool(kind.accelerators) or kind.type.startswith(("a2-", "a3-", "a4-", "g2-", "g4-"))


def _scheduling(kind: Kind) -> dict[str, Any]:
    if kind.spot:
        stop = {"instance_termination_action": "STOP", "automatic_restart": False, "on_host_maintenance": "TERMINATE"}
        return {"provisioning_model": "SPOT"} | stop
    return {"provisioning_model": "STANDARD"} | ({"on_host_maintenance": "TERMINATE"} if is_gpu(kind) else {})


def script(keys: HostIdentity) -> str:
    """Run by root at each start until the machine is handed over: installs the host key that is pinned, makes the workspace, and says
    so by a guest attribute. Until then the SSH server answers with a key of the image's making, and nobody may connect."""
    return f"""#!/bin/sh
set -eu
umask 077
key=/etc/ssh/ssh_host_ed25519_key
cat >"$key.torpor" <<'END_OF_KEY'
{keys.private.strip()}
END_OF_KEY
if ! cmp -s "$key.torpor" "$key"; then
    ssh-keygen -y -f "$key.torpor" >"$key.pub"
    chmod 644 "$key.pub"
    mv -f "$key.torpor" "$key"
    systemctl restart ssh || systemctl restart sshd || service ssh restart
fi
rm -f "$key.torpor"
id {USER} >/dev/null 2>&1 || useradd --create-home --shell /bin/bash {USER} || id {USER} # Google's agent may do the same just now
mkdir -p {WORKSPACE}
chmod 755 {WORKSPACE}
chown {USER}: {WORKSPACE}
for wait in 1 2 4 8 16 32; do
    curl --silent --show-error --fail -X PUT -H 'Metadata-Flavor: Google' --data ready {_TELL} && exit 0
    sleep $wait
done
exit 1
"""
