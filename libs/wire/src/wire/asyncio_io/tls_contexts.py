"""TLS contexts for HTTP/2 from PEM bytes: TLS 1.2 or newer, ALPN `h2` (RFC 9113 section 3.2)."""

import ssl
import tempfile
from pathlib import Path

from wire.tls import ClientTls, ServerTls

ALPN = "h2"


def server_context(tls: ServerTls) -> ssl.SSLContext:
    """Raises ssl.SSLError when a certificate or key is none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    _load_certificate(context, tls.certificate, tls.private_key)
    if tls.client_ca is not None:
        context.load_verify_locations(cadata=tls.client_ca.decode("ascii"))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(tls: ClientTls) -> ssl.SSLContext:
    """Raises ssl.SSLError when a certificate or key is none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the name and the certificate
    _harden(context)
    if tls.server_ca is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cadata=tls.server_ca.decode("ascii"))
    if tls.certificate is not None and tls.private_key is not None:
        _load_certificate(context, tls.certificate, tls.private_key)
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION  # RFC 9113 section 9.2.1
    context.set_alpn_protocols([ALPN])


def _load_certificate(context: ssl.SSLContext, certificate: bytes, private_key: bytes) -> None:
    """The ssl module reads them from files only: ones of this user, gone at once."""
    with tempfile.TemporaryDirectory() as folder:
        certificate_path, key_path = Path(folder, "certificate.pem"), Path(folder, "key.pem")
        certificate_path.write_bytes(certificate)
        key_path.touch(mode=0o600)
        key_path.write_bytes(private_key)
        context.load_cert_chain(certificate_path, key_path)
