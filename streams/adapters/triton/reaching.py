"""Why a Triton does not serve us: gRPC hides what TLS says, a handshake of our own tells it."""

from __future__ import annotations

import asyncio
import ssl

from streams.adapters.triton.client import SETTING
from streams.errors import ConfigurationError, DriftloopError, NotAnswering
from streams.settings import Settings

_SECONDS = 1.0
"""For each step; a server that is there takes milliseconds."""
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
"""What a client of HTTP/2 says first, with settings that change nothing."""


async def why(settings: Settings) -> DriftloopError | None:
    """What is wrong with the one Triton that the settings name; None where nobody listens."""
    at = settings.triton
    try:
        _, writer = await _opened(at)
        writer.close()
    except (OSError, ValueError):
        return None
    try:
        return await (_with_tls(settings) if settings.triton_tls else _without_tls(at))
    except (OSError, TimeoutError):
        pass  # it is no Triton
    tls = "with TLS" if settings.triton_tls else "without TLS"
    return NotAnswering(
        f"somebody listens at {at} and does not answer as Triton {tls} - see that {SETTING} is its "
        "gRPC port (8001), and what DRIFTLOOP_TRITON_TLS and its certificates should be"
    )


async def _with_tls(settings: Settings) -> DriftloopError:
    at = settings.triton
    context = ssl.create_default_context(cafile=settings.triton_cafile)
    if settings.triton_certfile:
        context.load_cert_chain(settings.triton_certfile, settings.triton_keyfile)
    try:
        answer = await _greeted(at, context, settings.triton_server_name)
    except ssl.SSLCertVerificationError as error:
        mend = (
            f"give the host name that it is for in {SETTING}, or in DRIFTLOOP_TRITON_SERVER_NAME"
            if "mismatch" in error.verify_message
            else "set DRIFTLOOP_TRITON_CAFILE to the CA that signed it"
        )
        return ConfigurationError(
            f"the certificate of Triton at {at} is not accepted ({error.verify_message}) - {mend}"
        )
    if answer:
        raise OSError("it speaks TLS, and no gRPC")
    asks = "does not accept our certificate" if settings.triton_certfile else "may ask for one"
    return NotAnswering(
        f"Triton at {at} hangs up after the TLS handshake, it {asks} - set "
        "DRIFTLOOP_TRITON_CERTFILE and DRIFTLOOP_TRITON_KEYFILE to what its --grpc-root-cert signed"
    )


async def _without_tls(at: str) -> DriftloopError:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    await _greeted(at, trusting)
    return ConfigurationError(
        f"Triton at {at} speaks TLS - set DRIFTLOOP_TRITON_TLS=true, and DRIFTLOOP_TRITON_CAFILE "
        "to the CA that signed its certificate"
    )


async def _greeted(at: str, context: ssl.SSLContext, name: str = "") -> bytes:
    """What it answers to a client of gRPC with TLS; nothing where it hangs up.

    Raises:
        OSError: the handshake fails. `TimeoutError`, too.
    """
    context.set_alpn_protocols(["h2"])
    reader, writer = await _opened(at, context, name)
    try:
        writer.write(_GREETING)
        async with asyncio.timeout(_SECONDS):
            return await reader.read(1)
    except (ConnectionError, ssl.SSLError):
        return b""
    finally:
        writer.close()


async def _opened(
    at: str, context: ssl.SSLContext | None = None, name: str = ""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Raises `OSError`; `ValueError` where the address has no port."""
    host, _, port = at.rpartition(":")
    async with asyncio.timeout(_SECONDS):
        host = host.strip("[]")
        named = name or host if context else None
        return await asyncio.open_connection(host, int(port), ssl=context, server_hostname=named)
