"""Certificates (X.509, RFC 5280): signed, read, and when they end."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from editing.base.errors import InputError

AUTHORITY_DAYS = 3650
"""For how long the authority holds; every node has a copy of its certificate."""

WARNING_DAYS = 30
"""For how long before its end a certificate is warned of."""

CLOCK_SKEW = timedelta(minutes=5)
"""Largest difference between our clock and a slower one that reads a certificate."""

NO_KEY = (OSError, ValueError, TypeError, NotImplementedError, UnsupportedAlgorithm)
"""What reading a file that is no private key raises."""

NO_CERTIFICATE = (
    *NO_KEY,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What reading a file that is no certificate raises, or what is in it."""

LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
HOST_NAME = re.compile(rf"({LABEL}\.)*{LABEL}")
NUMERIC = re.compile(r"(.*\.)?[0-9]+")
LONGEST_NAME = 253


@dataclass(frozen=True, slots=True)
class Ending:
    """When a certificate ends.

    Attributes:
        file: The certificate's.
        time: When it ends.
    """

    file: Path
    time: datetime

    def days_left(self, now: datetime) -> int:
        """Whole days until it ends; negative once it has."""
        return (self.time - now).days

    def warn(self, now: datetime) -> str:
        """Say in one line what to do about it; empty while there is time."""
        left = self.days_left(now)
        if left >= WARNING_DAYS:
            return ""
        when = f"ended on {self.time:%Y-%m-%d}" if left < 0 else f"ends in {left} days"
        return (
            f"{self.file} {when}: `python -m sims credentials --renew` signs a new one "
            "for the server; an authority that ends needs new credentials"
        )


def is_host_name(text: str) -> bool:
    """Whether a text is the name of a host (RFC 1123, section 2.1).

    One whose last label is a number is none, for it would be read as an address.
    """
    plain = text.lower() if text.isascii() else ""
    named = HOST_NAME.fullmatch(plain) and not NUMERIC.fullmatch(plain)
    return bool(named) and len(plain) <= LONGEST_NAME


def read_certificate(file: Path) -> x509.Certificate:
    """Read a certificate in PEM.

    Raises:
        InputError: If it is none.
    """
    try:
        found = x509.load_pem_x509_certificate(file.read_bytes())
        # These are parsed when they are asked for.
        _ = found.extensions, found.not_valid_after_utc, found.public_key()
    except NO_CERTIFICATE as error:
        raise InputError(
            f"{file}: is no certificate ({type(error).__name__}); wanted one in PEM, "
            "as this command writes it"
        ) from None
    return found


def read_names(certificate: x509.Certificate, file: Path) -> list[x509.GeneralName]:
    """List the names by which a server is reached.

    Raises:
        InputError: If its certificate has none.
    """
    kind = x509.SubjectAlternativeName
    try:
        return list(certificate.extensions.get_extension_for_class(kind).value)
    except x509.ExtensionNotFound:
        raise InputError(
            f"{file}: is no certificate of a server, for it has no names; wanted "
            "server.pem as this command writes it"
        ) from None


def require_issuer(
    certificate: x509.Certificate, file: Path, authority: x509.Certificate
) -> None:
    """Require that the authority signed a server's certificate.

    Raises:
        InputError: If it did not, so that no node trusts the server.
    """
    try:
        certificate.verify_directly_issued_by(authority)
    except (*NO_KEY, InvalidSignature):
        raise InputError(
            f"{file}: is not signed by the ca.crt next to it, so that nodes with that "
            "trust no such server; wanted both as this command made them. Give back "
            "the files of one authority"
        ) from None


def sign_authority(
    key: ec.EllipticCurvePrivateKey, lifetime: timedelta
) -> x509.Certificate:
    """Make a certificate that signs others and is signed by itself."""
    name = _name("Federation authority")
    usage = {"key_cert_sign": True, "crl_sign": True, "digital_signature": True}
    return (
        _begin(name, name, key.public_key(), lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(**usage), critical=True)
        .sign(key, hashes.SHA384())
    )


def sign_server(
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    names: Sequence[x509.GeneralName],
    lifetime: timedelta,
) -> x509.Certificate:
    """Make a certificate for a server of these names, signed by the authority."""
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(
        authority_key.public_key()
    )
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    return (
        _begin(_name("SuperLink"), authority.subject, key.public_key(), lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(usage, critical=False)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(issuer, critical=False)
        .sign(authority_key, hashes.SHA384())
    )


def _begin(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    """Begin a certificate that holds from now."""
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(
    *,
    digital_signature: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
