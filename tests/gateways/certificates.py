"""Certificates for gateways that check each other: a CA, one server on loopback, its clients."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIFE = timedelta(hours=1)


class Authority:
    """A CA that keeps its certificates in a folder, as PEM files: ``ca.pem``, and ``NAME.pem`` with
    ``NAME.key`` for each name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("CA")
        certificate = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self._ca = certificate.public_bytes(serialization.Encoding.PEM)
        (folder / "ca.pem").write_bytes(self._ca)
        self.issue("server")

    def issue(self, name: str) -> tuple[Path, Path]:
        """Return the files of a certificate for 127.0.0.1 and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._builder(_name(name), key)
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName(name)]
                ),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        files = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files

    def server(self) -> dict[str, Path]:
        """Return the arguments of a gateway that listens with TLS."""
        return {
            "certificate": self.folder / "server.pem",
            "private_key": self.folder / "server.key",
            "client_ca": self.folder / "ca.pem",
        }

    def client(
        self, name: str, *, without: bool = False, trusting: Authority | None = None
    ) -> grpc.ChannelCredentials:
        """Return what a client connects with; ``without`` a certificate of its own if so wished,
        and ``trusting`` a server of another CA."""
        roots = (trusting or self)._ca
        if without:
            return grpc.ssl_channel_credentials(roots)
        certificate, key = self.issue(name)
        return grpc.ssl_channel_credentials(roots, key.read_bytes(), certificate.read_bytes())

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - LIFE)
            .not_valid_after(now + LIFE)
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
