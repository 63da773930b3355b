"""What keeps the embedded stack its user's own: secrets and certificates in files that nobody else
on the host can read. They are made once for a state directory.

Loopback belongs to everybody on a host. So each server wants to know who asks: Kafka and Valkey by
a password, Triton (which knows none) by a certificate.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from streams.errors import ConfigurationError

USER = "driftloop"
"""The name by which workers and their tools are known."""
ADMIN = "admin"
"""Of Valkey: may do everything, which no worker needs."""
_LASTS, _RENEW = timedelta(days=3650), timedelta(days=365)


@dataclass(frozen=True)
class Passwords:
    """Of one stack."""

    kafka: str
    redis: str
    redis_admin: str


@dataclass(frozen=True)
class Certificates:
    """PEM files: who signs, and the two ends' certificates and keys."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path
    kafka: Path
    """Certificate and key in one, by which broker and controller know each other."""


def close(*folders: Path) -> None:
    """Make these directories, and let nobody but their owner in; what is made later is private too.

    Raises:
        ConfigurationError: they are another user's.
    """
    os.umask(0o077)
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
        except OSError as error:
            raise ConfigurationError(
                f"cannot keep {folder} from other users ({error.strerror}) - it must be yours: set "
                "DRIFTLOOP_STATE_DIR and DRIFTLOOP_MODEL_REPOSITORY to directories of your own"
            ) from None


def passwords(home: Path) -> Passwords:
    """The stack's passwords; made where there are none yet."""
    file = home / "passwords.json"
    try:
        return msgspec.json.decode(file.read_bytes(), type=Passwords)
    except (OSError, msgspec.MsgspecError):
        made = Passwords(*(secrets.token_urlsafe(24) for _ in range(3)))
        write_private(file, msgspec.json.encode(asdict(made)))
        return made


def hashed(password: str) -> str:
    """A password as Valkey's configuration has it: it tells nobody the password."""
    return "#" + hashlib.sha256(password.encode()).hexdigest()


def write_private(file: Path, content: bytes) -> None:
    """Write a file that only its owner can read, at once."""
    staging = file.with_name(file.name + ".part")
    staging.unlink(missing_ok=True)
    made = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(made, "wb") as out:
        out.write(content)
    staging.rename(file)


def certificates(home: Path) -> Certificates:
    """The stack's certificates; made where there are none, or they end within a year.

    Whoever signs them is forgotten: no others can be made.
    """
    home.mkdir(parents=True, exist_ok=True)
    names = ("ca.pem", "server.pem", "server.key", "client.pem", "client.key", "kafka.pem")
    found = Certificates(*(home / name for name in names))
    if _good(found):
        return found
    signer = ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("driftloop embedded stack", signer, None, signer)
    server, client = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
    for file, key_file, usages in (
        (found.server, found.server_key, [server]),
        (found.client, found.client_key, [client]),
        (found.kafka, found.kafka, [server, client]),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        made = _certificate(USER, key, ca, signer, usages)
        pem = made.public_bytes(serialization.Encoding.PEM)
        write_private(key_file, _pem(key))
        write_private(file, _pem(key) + pem if file == key_file else pem)
    write_private(found.ca, ca.public_bytes(serialization.Encoding.PEM))
    return found


def _good(found: Certificates) -> bool:
    """Whether all files are there and last."""
    try:
        ends = [
            x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc
            for file in (found.ca, found.server, found.client, found.kafka)
        ]
    except (OSError, ValueError):
        return False
    keys = found.server_key.exists() and found.client_key.exists()
    return keys and min(ends) > datetime.now(UTC) + _RENEW


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate | None,
    signer: ec.EllipticCurvePrivateKey,
    usages: Sequence[x509.ObjectIdentifier] = (),
) -> x509.Certificate:
    """A certificate for 127.0.0.1; of a signer where there is no `ca`."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(ca.subject if ca else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))  # a clock may be stepped
        .not_valid_after(now + _LASTS)
        .add_extension(x509.BasicConstraints(ca=ca is None, path_length=None), critical=True)
    )
    if usages:
        builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
