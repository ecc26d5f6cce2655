import shutil
import subprocess
from pathlib import Path

import pytest

from wire import Channel, ClientTls, RpcError, RpcStatus, Server, ServerTls, Transport

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl makes the certificates")


class Party:
    """A self-signed certificate for a name; it is its own authority."""

    def __init__(self, folder: Path, name: str) -> None:
        key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
        subprocess.run(
            [
                *(str(OPENSSL), "req", "-x509", "-newkey", "ec", "-nodes", "-days", "1"),
                *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", f"/CN={name}"),
                *("-addext", f"subjectAltName=DNS:{name}"),
                *("-keyout", str(key), "-out", str(certificate)),
            ],
            check=True,
            capture_output=True,
        )
        self.key, self.certificate = key.read_bytes(), certificate.read_bytes()


async def ask(address: str, tls: ClientTls | None, transport: Transport) -> bytes:
    async with Channel(address, tls=tls, transport=transport) as channel:
        return await channel.unary("/t.S/Echo", b"x", timeout_s=5)


async def listening(tls: ServerTls, transport: Transport) -> tuple[Server, str]:
    server = Server(tls=tls, transport=transport)
    server.unary("/t.S/Echo", lambda message: message)
    [address] = await server.listen("127.0.0.1:0")
    return server, address


async def test_a_client_that_trusts_the_server_talks_to_it_and_others_do_not(
    tmp_path: Path, transport: Transport
) -> None:
    party, stranger = Party(tmp_path, "router"), Party(tmp_path, "stranger")
    server, address = await listening(ServerTls(party.certificate, party.key), transport)
    trusting = ClientTls(server_ca=party.certificate, server_name="router")
    assert await ask(address, trusting, transport) == b"x"
    for tls in (
        ClientTls(server_ca=stranger.certificate, server_name="router"),
        ClientTls(server_ca=party.certificate, server_name="scheduler"),
        None,
    ):
        with pytest.raises(RpcError) as caught:
            await ask(address, tls, transport)
        assert caught.value.status is RpcStatus.UNAVAILABLE
    await server.drain(0)


async def test_a_server_may_ask_for_a_certificate_of_the_client(
    tmp_path: Path, transport: Transport
) -> None:
    party, edge = Party(tmp_path, "router"), Party(tmp_path, "edge")
    server, address = await listening(
        ServerTls(party.certificate, party.key, client_ca=edge.certificate), transport
    )
    known = ClientTls(
        server_ca=party.certificate,
        certificate=edge.certificate,
        private_key=edge.key,
        server_name="router",
    )
    assert await ask(address, known, transport) == b"x"
    with pytest.raises(RpcError) as caught:
        await ask(address, ClientTls(server_ca=party.certificate, server_name="router"), transport)
    assert caught.value.status is RpcStatus.UNAVAILABLE
    await server.drain(0)
