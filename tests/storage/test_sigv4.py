"""Signed URLs, compared with botocore's own."""

from __future__ import annotations

from datetime import UTC, datetime

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from torpor.settings import Secret
from torpor.storage.sigv4 import LONGEST, Signer

NOW = datetime(2026, 11, 26, 1, 2, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9000/bucket/packs/20260801T120000000-0a1b2c3d/89abcdef-0",
        "https://bucket.s3.eu-west-1.amazonaws.com/a/prefix/packs/x/y_z.w",
        "https://host.example:443/b/x",
        "http://host.example:80/b/x",
        "http://[::1]:9000/b/x",
    ],
)
@pytest.mark.parametrize("token", ["", "a+b/c=="])
@pytest.mark.parametrize("headers", [{}, {"If-None-Match": "*"}], ids=["plain", "conditional"])
def test_signatures_are_botocores(monkeypatch: pytest.MonkeyPatch, url: str, token: str, headers: dict[str, str]) -> None:
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_: NOW)
    for method, seconds in (("PUT", 1), ("GET", LONGEST)):
        request = AWSRequest(method, url, headers=headers)
        botocore.auth.S3SigV4QueryAuth(Credentials("AK/ID", "se+cret/", token or None), "s3", "eu-west-1", expires=seconds).add_auth(
            request
        )
        ours = Signer("AK/ID", Secret("se+cret/"), Secret(token), "eu-west-1").sign(method, url, NOW.timestamp(), seconds, headers)
        base, _, query = ours.partition("?")
        assert base == url
        assert sorted(query.split("&")) == sorted(request.url.partition("?")[2].split("&"))


def test_a_signer_does_not_show_its_secret() -> None:
    assert "hunter2" not in repr(Signer("key", Secret("hunter2"), Secret("hunter2"), "auto"))
