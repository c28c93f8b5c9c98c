"""Certificates and keys of a federation: who the server is, and which nodes may join.

One authority of the federation's own signs the server's certificate (TLS, RFC 5280),
and each node has a key pair by which the server knows it. All keys are of the curve
P-384 (FIPS 186-5), as Flower's node authentication wants them.
"""

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    SSHPublicKeyTypes,
    load_pem_private_key,
    load_ssh_private_key,
)

from editing.base.errors import InputError
from editing.files.atomic import write_private, write_whole
from server.output import create_output_folder
from sims.processes.certificates import (
    AUTHORITY_DAYS,
    NO_KEY,
    Ending,
    is_host_name,
    read_certificate,
    read_names,
    require_issuer,
    sign_authority,
    sign_server,
)

ALWAYS = ("localhost", "127.0.0.1")
"""Names by which the machine itself reaches the server; every certificate has them."""

PRIVATE, PUBLIC, OWN_FOLDER = 0o600, 0o644, 0o700


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the files of a federation's credentials lie.

    Attributes:
        folder: The folder that holds them all.
    """

    folder: Path

    @property
    def authority(self) -> Path:
        """The authority's certificate; every node and every operator has a copy."""
        return self.folder / "certificates" / "ca.crt"

    @property
    def authority_key(self) -> Path:
        """The authority's private key; nobody needs it to run anything."""
        return self.folder / "certificates" / "ca.key"

    @property
    def server_certificate(self) -> Path:
        """The server's certificate; it stays with the server."""
        return self.folder / "certificates" / "server.pem"

    @property
    def server_key(self) -> Path:
        """The server's private key; it stays with the server."""
        return self.folder / "certificates" / "server.key"

    def node_key(self, number: int) -> Path:
        """A node's private key; it goes to that node alone."""
        return self.folder / "keys" / f"node_{number}"

    def node_public_key(self, number: int) -> Path:
        """A node's public key; it is registered with the server."""
        return self.node_key(number).with_suffix(".pub")

    def node_numbers(self) -> list[int]:
        """The numbers of the nodes whose public keys are there."""
        names = (path.stem for path in (self.folder / "keys").glob("node_*.pub"))
        numbers = (name.removeprefix("node_") for name in names)
        return sorted(int(number) for number in numbers if number.isdecimal())


def make_credentials(
    folder: Path, nodes: int, hosts: Sequence[str] = (), days: int = 365
) -> Credentials:
    """Make an authority, the server's certificate and a key pair for each node.

    Private files are readable by their owner alone, and so is the folder. Whatever is
    there already is refused as an `InputError` and stays as it is.

    Args:
        folder: The folder to make.
        nodes: How many key pairs to make; 0 where nodes make their own.
        hosts: Names and addresses by which nodes reach the server, besides `ALWAYS`.
        days: For how long the server's certificate holds; the authority's holds for
            ten years, or as long as the server's if that is longer.
    """
    names = [read_host(host) for host in dict.fromkeys([*ALWAYS, *hosts])]
    with create_output_folder(folder.absolute()) as draft:
        draft.chmod(OWN_FOLDER)
        made = Credentials(draft)
        for place in (made.authority.parent, made.node_key(0).parent):
            place.mkdir(mode=OWN_FOLDER)
        _write_certificates(made, names, timedelta(days=days))
        for number in range(nodes):
            _write_node_keys(made, number)
    return Credentials(folder)


def add_nodes(folder: Path, nodes: int) -> list[int]:
    """Make key pairs for further nodes, and leave all that is there as it is.

    Returns:
        The numbers of the new nodes, which follow the highest that there is.

    Raises:
        InputError: If there are no credentials in the folder.
    """
    existing = Credentials(folder)
    if not existing.authority.is_file() or not existing.node_key(0).parent.is_dir():
        raise InputError(
            f"{folder}: holds no credentials to add nodes to; it should be a folder "
            "that this command made. Leave --add out to make one"
        )
    first = max(existing.node_numbers(), default=-1) + 1
    numbers = list(range(first, first + nodes))
    for number in numbers:
        _write_node_keys(existing, number)
    return numbers


def renew_server(folder: Path, days: int = 365) -> Credentials:
    """Sign a new certificate for the server, of the same names, with a new key.

    Nodes trust it as they trust the former one, for the authority is the same.

    Args:
        folder: The credentials.
        days: For how long it holds, at most as long as the authority.

    Raises:
        InputError: If the folder lacks the authority's key or the former certificate,
            or one of them is another authority's.
    """
    made = Credentials(folder)
    former = read_certificate(made.server_certificate)
    authority = read_certificate(made.authority)
    names = read_names(former, made.server_certificate)
    require_issuer(former, made.server_certificate, authority)
    signer = _read_signer(made.authority_key, authority)
    left = authority.not_valid_after_utc - datetime.now(UTC)
    if left <= timedelta(0):
        raise InputError(
            f"{made.authority}: has ended, and what it signs is not trusted; make new "
            "credentials in another folder"
        )
    key = ec.generate_private_key(ec.SECP384R1())
    lifetime = min(timedelta(days=days), left)
    signed = sign_server(key, authority, signer, names, lifetime)
    write_private(made.server_key, _pem_of(key))
    write_whole(made.server_certificate, signed.public_bytes(Encoding.PEM))
    made.server_certificate.chmod(PUBLIC)
    return made


def _read_signer(file: Path, authority: x509.Certificate) -> ec.EllipticCurvePrivateKey:
    """Read the authority's private key, which belongs to its certificate."""
    key = _read_key(file)
    if key.public_key() != authority.public_key():
        raise InputError(
            f"{file}: is not the key of the authority in ca.crt, and no node would "
            "trust what it signs; give back the key that was made with ca.crt"
        )
    return key


def _read_key(file: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key
    except NO_KEY:
        pass
    raise InputError(
        f"{file}: is no private key of an authority; renew where the folder that "
        "`python -m sims credentials` made is whole"
    )


def find_endings(folder: Path) -> tuple[Ending, ...]:
    """Read when the certificates of a federation end: authority first, then server.

    A node has the authority's certificate alone, which may also be named itself.

    Raises:
        InputError: If there is none, or it cannot be read, or the authority did not
            sign the server's.
    """
    made = Credentials(folder)
    named = [folder] if folder.is_file() else [made.authority, made.server_certificate]
    found = [file for file in named if file.is_file()]
    if not found:
        raise InputError(
            f"{folder}: holds no certificates; wanted a folder that this command made, "
            "or a copy of its ca.crt"
        )
    read = {file: read_certificate(file) for file in found}
    if len(read) > 1:
        authority = read[made.authority]
        require_issuer(
            read[made.server_certificate], made.server_certificate, authority
        )
    return tuple(Ending(file, each.not_valid_after_utc) for file, each in read.items())


def read_public_half(private: Path) -> bytes:
    """Read the public half of a node's private key, as a file of its own has it.

    Raises:
        InputError: If it is no such key, or cannot be read without a passphrase.
    """
    try:
        key = load_ssh_private_key(private.read_bytes(), password=None)
    except NO_KEY as error:
        raise InputError(
            f"{private}: is no private key of a node ({type(error).__name__}); wanted "
            "one without a passphrase, as `ssh-keygen -t ecdsa -b 384` writes it"
        ) from None
    return _public_half(key.public_key())


def read_host(text: str) -> x509.GeneralName:
    """Read a host name or an address as a certificate has them.

    Raises:
        InputError: If it is neither.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        plain = text.lower()
    if not is_host_name(plain.removeprefix("*.")):
        raise InputError(
            f"--host {text}: wanted a host name or an address without scheme or port, "
            "such as superlink.example.org or 10.0.0.5"
        )
    return x509.DNSName(plain)


def _write_certificates(
    made: Credentials, names: Sequence[x509.GeneralName], lifetime: timedelta
) -> None:
    """Write the authority, and the server's certificate which it signs."""
    authority_key = ec.generate_private_key(ec.SECP384R1())
    server_key = ec.generate_private_key(ec.SECP384R1())
    ten_years = timedelta(days=AUTHORITY_DAYS)
    authority = sign_authority(authority_key, max(lifetime, ten_years))
    server = sign_server(server_key, authority, authority_key, names, lifetime)
    _write_private(made.authority_key, _pem_of(authority_key))
    _write(made.authority, authority.public_bytes(Encoding.PEM), PUBLIC)
    _write_private(made.server_key, _pem_of(server_key))
    _write(made.server_certificate, server.public_bytes(Encoding.PEM), PUBLIC)


def _write_node_keys(made: Credentials, number: int) -> None:
    """Write a node's key pair, as OpenSSH writes them."""
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    _write_private(made.node_key(number), private)
    _write(made.node_public_key(number), _public_half(key.public_key()), PUBLIC)


def _public_half(key: SSHPublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n"


def _pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write_private(path: Path, data: bytes) -> None:
    _write(path, data, PRIVATE)


def _write(path: Path, data: bytes, mode: int) -> None:
    """Write a new file with its mode from the start.

    Raises:
        InputError: If it is there already.
    """
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise InputError(
            f"{path}: exists; credentials are never overwritten. Name another folder"
        ) from None
    with os.fdopen(number, "wb") as file:
        os.fchmod(number, mode)  # whatever the user's mask takes away
        file.write(data)
