"""A client of boto3's core that suits every service of the family, and what signs grants beside it."""

from __future__ import annotations

import base64
import hashlib
import threading
from typing import TYPE_CHECKING, Any

from torpor.settings import Secret
from torpor.storage.sigv4 import Signer

if TYPE_CHECKING:
    from torpor.storage.s3_place import Account, Place

# Of one request: tries in all, with pauses of up to 20 s between them; seconds until connected; seconds without a byte.
TRIES = 6
CONNECT = 10
READ = 60


class Client:
    """Connects at the first use. `account`: None for credentials that boto3 finds by itself."""

    def __init__(self, place: Place, account: Account | None) -> None:
        self._place = place
        self._account = account
        self._lock = threading.Lock()
        self._session: Any = None
        self._s3: Any = None
        self._base = ""
        self._region = place.region

    @property
    def s3(self) -> Any:
        """The boto3 client; for any number of threads. Raises what botocore raises."""
        if self._s3 is None:
            with self._lock:  # boto3 makes clients for one thread at a time
                if self._s3 is None:
                    self._s3 = self._connect()
        return self._s3

    def signer(self) -> tuple[Signer, str]:
        """What signs grants now, and the URL that an object's name is appended to. Raises what botocore raises."""
        from botocore.exceptions import NoCredentialsError

        example = self.s3.generate_presigned_url("get_object", Params={"Bucket": self._place.bucket, "Key": self._place.prefix + "x"})
        found = self._session.get_credentials()
        if found is None:
            raise NoCredentialsError
        now = found.get_frozen_credentials()  # such as run out are refreshed by it
        signer = Signer(now.access_key, Secret(now.secret_key), Secret(now.token or ""), self._region)
        return signer, example.partition("?")[0][:-1]

    def _connect(self) -> Any:
        from botocore.session import get_session  # boto3 is this, and 0.13 s of imports for transfers that are not made here

        account = self._account
        self._session = get_session()
        if account:
            self._session.set_credentials(account.key, account.secret.reveal(), account.token.reveal() or None)
        if self._region:
            return self._client(self._region)
        client = self._client("us-east-1")
        self._region = _region(client, self._place.bucket)
        return client if self._region == "us-east-1" else self._client(self._region)

    def _client(self, region: str) -> Any:
        from botocore.config import Config

        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": self._place.style},
            # Newer checksums are refused by some services; MD5 is taken by all.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "total_max_attempts": TRIES},
            connect_timeout=CONNECT,
            read_timeout=READ,
            max_pool_connections=64,
            tcp_keepalive=True,
            ignore_configured_endpoint_urls=True,
        )
        client = self._session.create_client("s3", region_name=region, endpoint_url=self._place.endpoint or None, config=config)
        client.meta.events.register("before-call.s3.DeleteObjects", _with_md5)
        return client


def _region(client: Any, bucket: str) -> str:
    """The region of a bucket, which even a refusal tells."""
    from botocore.exceptions import ClientError

    try:
        answer = client.head_bucket(Bucket=bucket)
    except ClientError as error:
        answer = error.response
        if not answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region"):
            raise
    return str(answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region") or "us-east-1")


def _with_md5(params: dict[str, Any], **_: Any) -> None:
    """Deleting many needs a digest. boto3 would send CRC-32, which is newer than some services; all of them take MD5."""
    params["context"].pop("checksum", None)
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()
