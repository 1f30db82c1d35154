"""The parts of `cryptography` that torpor is made of, by the short way.

The classes of `cryptography` load its whole OpenSSL back end, fifteen modules, to ask whether that knows a curve, on the way to a
snapshot's first byte. The functions that they then call are called here; where a version of `cryptography` has them elsewhere, its
classes.
"""

from __future__ import annotations

from cryptography.hazmat.bindings._rust import openssl

if hasattr(openssl, "x25519") and hasattr(openssl.x25519, "from_private_bytes"):
    AESGCM = openssl.aead.AESGCM
    x25519_private = openssl.x25519.from_private_bytes
    x25519_public = openssl.x25519.from_public_bytes
    ed25519_private = openssl.ed25519.from_private_bytes
    ed25519_public = openssl.ed25519.from_public_bytes
else:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    x25519_private = X25519PrivateKey.from_private_bytes
    x25519_public = X25519PublicKey.from_public_bytes
    ed25519_private = Ed25519PrivateKey.from_private_bytes
    ed25519_public = Ed25519PublicKey.from_public_bytes

__all__ = ["AESGCM", "ed25519_private", "ed25519_public", "x25519_private", "x25519_public"]
