"""Who gets into the embedded Kafka: clients by a password, broker and controller by certificates.

The password itself goes over no connection (SCRAM): somebody else on the host may listen on the
broker's port while it is down, and would learn it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from workers.devstack.private import USER, Certificates, hashed, write_private

_MECHANISM = "SCRAM-SHA-256"
_LOGIN = (
    "org.apache.kafka.common.security.scram.ScramLoginModule required "
    'username="{user}" password="{password}";'
)
_SERVER = """\
sasl.enabled.mechanisms={mechanism}
sasl.mechanism.inter.broker.protocol={mechanism}
listener.name.client.scram-sha-256.sasl.jaas.config={login}
"""
_TLS = """\
{prefix}ssl.keystore.type=PEM
{prefix}ssl.keystore.location={certificates.kafka}
{prefix}ssl.truststore.type=PEM
{prefix}ssl.truststore.location={certificates.ca}
"""


@dataclass(frozen=True)
class Access:
    """What lets in."""

    password: str
    certificates: Certificates
    by_certificate: bool = False
    """Whether clients, too, need a certificate, instead of the password."""

    @property
    def protocol(self) -> str:
        """By which clients come."""
        return "SSL" if self.by_certificate else "SASL_PLAINTEXT"

    def properties(self) -> str:
        """What broker and controller are told of it."""
        told = _SERVER.format(mechanism=_MECHANISM, login=self._login())
        listeners = ["controller", "client"] if self.by_certificate else ["controller"]
        return told + "".join(
            f"listener.name.{listener}.ssl.client.auth=required\n"
            + self._tls(f"listener.name.{listener}.")
            for listener in listeners
        )

    def format_arguments(self, home: Path) -> list[str]:
        """Arguments of the storage tool that make a new controller know the password.

        They are in a file: a command line can be read by everybody.
        """
        file = home / "format.arguments"
        credential = f"{_MECHANISM}=[name={USER},password={self.password}]"
        write_private(file, f"--add-scram\n{credential}\n".encode())
        return [f"@{file}"]

    def change_arguments(self, home: Path) -> list[str]:
        """Arguments of the configuration tool that make a running Kafka know the password."""
        told, tls = home / "change.properties", home / "tool.properties"
        write_private(told, f"{_MECHANISM}=password={self.password}\n".encode())
        write_private(tls, escaped(f"security.protocol=SSL\n{self._tls('')}"))
        of = ["--alter", "--entity-type", "users", "--entity-name", USER]
        return [*of, "--add-config-file", str(told), "--command-config", str(tls)]

    def known(self, home: Path) -> bool:
        """Whether the controller in this directory knows the password."""
        file = home / "password.sha256"
        return file.exists() and file.read_text() == hashed(self.password)

    def learnt(self, home: Path) -> None:
        """Note that it does; nothing else needs the password in clear."""
        write_private(home / "password.sha256", hashed(self.password).encode())
        for name in ("format.arguments", "change.properties"):
            (home / name).unlink(missing_ok=True)

    def write_client_properties(self, state_dir: Path, address: str) -> None:
        """Write the file of `client_properties`, for its owner alone."""
        lines = {
            "bootstrap.servers": address,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": _MECHANISM,
            "sasl.username": USER,
            "sasl.password": self.password,
            "sasl.jaas.config": self._login(),
        }
        text = "".join(f"{name}={value}\n" for name, value in lines.items())
        write_private(client_properties(state_dir), text.encode())

    def settings(self) -> dict[str, str]:
        """The settings that let a client in, beside the address."""
        return {
            "kafka_security_protocol": "SASL_PLAINTEXT",
            "kafka_sasl_mechanism": _MECHANISM,
            "kafka_username": USER,
            "kafka_password": self.password,
        }

    def _login(self) -> str:
        return _LOGIN.format(user=USER, password=self.password)

    def _tls(self, prefix: str) -> str:
        return _TLS.format(prefix=prefix, certificates=self.certificates)


def client_properties(state_dir: Path) -> Path:
    """The file that tells Kafka's own clients, and librdkafka's, how to get in."""
    return state_dir.resolve() / "stack" / "kafka-client.properties"


def escaped(text: str) -> bytes:
    """Text as a file of Java properties: what is not ASCII is its UTF-16 code, spelt out."""

    def spelt(found: re.Match[str]) -> str:
        code = found[0].encode("utf-16-be").hex()
        return "".join(f"\\u{code[at : at + 4]}" for at in range(0, len(code), 4))

    return re.sub(r"[^\x00-\x7f]", spelt, text).encode("ascii")
