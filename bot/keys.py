"""Keys that sign, and keys that signatures are held against: PEM files, named by their fingerprints."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from bot.errors import KeyUnusable

# The curves that OpenSSF Model Signing knows, by the names that `openssl ecparam` has for them.
CURVES = {"secp256r1": "prime256v1", "secp384r1": "secp384r1", "secp521r1": "secp521r1"}
MAKE_ONE = "`openssl ecparam -name prime256v1 -genkey -noout -out signing.pem` makes one."
TAKE_HALF = "`openssl ec -in signing.pem -pubout -out signing.pub` writes the public half of a key."


def fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """The SHA-256 of the public key's PEM file as openssl writes it: what `sha256sum signing.pub` prints.

    A signature of OpenSSF Model Signing names its key by the same digest.
    """
    return hashlib.sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def public_half(path: Path) -> ec.EllipticCurvePublicKey:
    """The public half of the private key in a file.

    Raises:
        KeyUnusable: it cannot be read, or cannot sign.
    """
    try:
        key = load_pem_private_key(_read(path), None)
    except TypeError:
        raise KeyUnusable(f"The key in {path} is locked with a passphrase.", "Use a key without one.") from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyUnusable(f"There is no private key in PEM form in {path}.", MAKE_ONE) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyUnusable(f"The key in {path} is not an elliptic curve key.", MAKE_ONE)
    return _known(path, key.public_key(), MAKE_ONE)


def public_key(path: Path) -> ec.EllipticCurvePublicKey:
    """The public key in a file.

    Raises:
        KeyUnusable: it cannot be read, or signatures cannot be held against it.
    """
    try:
        key = load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm):
        raise KeyUnusable(f"There is no public key in PEM form in {path}.", TAKE_HALF) from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise KeyUnusable(f"The key in {path} is not an elliptic curve key.", TAKE_HALF)
    return _known(path, key, TAKE_HALF)


def _known(path: Path, key: ec.EllipticCurvePublicKey, hint: str) -> ec.EllipticCurvePublicKey:
    if key.curve.name not in CURVES:
        curves = ", ".join(CURVES.values())
        raise KeyUnusable(f"The key in {path} is on the curve {key.curve.name}; it has to be one of {curves}.", hint)
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyUnusable(f"The key file {path} cannot be read: {error.strerror}.", "Is the path right?") from None
