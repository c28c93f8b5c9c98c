"""Laws of a federation's credentials."""

import ipaddress
import os
import ssl
import stat
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_key,
)
from cryptography.x509.verification import PolicyBuilder, Store
from flwr.cli.supernode.register import try_load_public_key
from typer.testing import CliRunner

from editing.base.errors import InputError
from sims.cli.main import app
from sims.processes.certificates import AUTHORITY_DAYS, CLOCK_SKEW
from sims.processes.credentials import (
    ALWAYS,
    Credentials,
    add_nodes,
    find_endings,
    make_credentials,
    renew_server,
)

HOSTS = ("superlink.example.org", "10.0.0.5", "::1")
DAYS = 30


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    """Credentials of two nodes and a server that has several names."""
    return make_credentials(tmp_path_factory.mktemp("c") / "made", 2, HOSTS, DAYS)


def certificate(path: Path) -> x509.Certificate:
    """Read a certificate."""
    return x509.load_pem_x509_certificate(path.read_bytes())


def contents_of(folder: Path) -> dict[str, bytes]:
    """Read all files of a folder, by their path in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("host", [*ALWAYS, *HOSTS])
def test_the_server_is_trusted_by_every_name_given(
    made: Credentials, host: str
) -> None:
    """The whole chain, as a client of TLS verifies it."""
    try:
        subject: x509.DNSName | x509.IPAddress = x509.IPAddress(
            ipaddress.ip_address(host)
        )
    except ValueError:
        subject = x509.DNSName(host)
    store = Store([certificate(made.authority)])
    verifier = PolicyBuilder().store(store).build_server_verifier(subject)
    assert verifier.verify(certificate(made.server_certificate), [])


def test_no_other_name_and_no_other_authority_is_trusted(
    made: Credentials, tmp_path: Path
) -> None:
    """Neither a host that was not named nor another federation's certificate."""
    server = certificate(made.server_certificate)
    other = make_credentials(tmp_path / "other", 0)
    for authority, name in ((made, "example.org"), (other, "localhost")):
        store = Store([certificate(authority.authority)])
        verifier = PolicyBuilder().store(store)
        with pytest.raises(x509.verification.VerificationError):
            verifier.build_server_verifier(x509.DNSName(name)).verify(server, [])


def test_certificates_hold_for_the_days_asked_for(made: Credentials) -> None:
    """From a moment ago, for clocks that are slow; the authority for ten years."""
    for path, days in (
        (made.authority, AUTHORITY_DAYS),
        (made.server_certificate, DAYS),
    ):
        found = certificate(path)
        begun = found.not_valid_before_utc + CLOCK_SKEW
        assert abs(datetime.now(UTC) - begun) < timedelta(minutes=2)
        assert found.not_valid_after_utc - begun == timedelta(days=days)


def test_keys_belong_to_their_certificates_and_to_nobody_else(
    made: Credentials,
) -> None:
    """All on P-384, and no two alike."""
    server_key = load_pem_private_key(made.server_key.read_bytes(), None)
    authority_key = load_pem_private_key(made.authority_key.read_bytes(), None)
    pairs = [
        (server_key.public_key(), certificate(made.server_certificate).public_key()),
        (authority_key.public_key(), certificate(made.authority).public_key()),
    ]
    for number in made.node_numbers():
        key = load_ssh_private_key(made.node_key(number).read_bytes(), None)
        public = load_ssh_public_key(made.node_public_key(number).read_bytes())
        pairs.append((key.public_key(), public))
    assert len(pairs) == 4
    for own, stated in pairs:
        assert isinstance(own, ec.EllipticCurvePublicKey)
        assert own.curve.name == "secp384r1"
        assert own == stated
        assert sum(own == other for other, _ in pairs) == 1


def test_flower_and_tls_load_them(made: Credentials) -> None:
    """The server's pair as a TLS server has it; the nodes' as they are registered."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.server_certificate, made.server_key)
    ssl.create_default_context(cafile=str(made.authority))
    assert try_load_public_key(made.node_public_key(1))


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_private_files_are_their_owners_alone(tmp_path: Path, mask: int) -> None:
    """Whatever mask the user has."""
    before = os.umask(mask)
    try:
        made = make_credentials(tmp_path / "made", 1)
        add_nodes(made.folder, 1)
    finally:
        os.umask(before)
    modes = {
        str(path.relative_to(made.folder)): stat.S_IMODE(path.stat().st_mode)
        for path in [made.folder, *made.folder.rglob("*")]
    }
    assert modes == {
        ".": 0o700,
        "certificates": 0o700,
        "keys": 0o700,
        "certificates/ca.crt": 0o644,
        "certificates/ca.key": 0o600,
        "certificates/server.pem": 0o644,
        "certificates/server.key": 0o600,
        "keys/node_0": 0o600,
        "keys/node_0.pub": 0o644,
        "keys/node_1": 0o600,
        "keys/node_1.pub": 0o644,
    }


def test_nothing_is_overwritten(made: Credentials) -> None:
    """Neither by making them again nor by adding to them."""
    before = contents_of(made.folder)
    with pytest.raises(InputError, match="never overwritten"):
        make_credentials(made.folder, 2)
    assert contents_of(made.folder) == before


def test_a_node_is_added_and_all_else_stays(tmp_path: Path) -> None:
    """The server's certificate and the other nodes need not be touched."""
    made = make_credentials(tmp_path / "made", 2)
    before = contents_of(made.folder)
    made.node_key(0).unlink()  # it has gone to its node
    assert add_nodes(made.folder, 2) == [2, 3]
    after = contents_of(made.folder)
    new = {f"keys/node_{number}{end}" for number in (2, 3) for end in ("", ".pub")}
    assert after.keys() - before.keys() == new
    assert all(after[name] == before[name] for name in after.keys() & before.keys())


def test_a_key_of_an_unregistered_node_is_not_overwritten(tmp_path: Path) -> None:
    """Even if its public half was lost."""
    made = make_credentials(tmp_path / "made", 1)
    made.node_public_key(0).unlink()
    before = contents_of(made.folder)
    with pytest.raises(InputError, match=r"node_0: exists"):
        add_nodes(made.folder, 1)
    assert contents_of(made.folder) == before


def test_nodes_are_added_to_credentials_alone(tmp_path: Path) -> None:
    """A mistyped folder is named, and nothing is put there."""
    with pytest.raises(InputError, match="holds no credentials"):
        add_nodes(tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "host", ["", "https://a.org", "a.org:8000", "a b", "10.0.0.256", "-a", "a..b"]
)
def test_what_is_no_host_is_refused_before_anything_is_made(
    tmp_path: Path, host: str
) -> None:
    """A certificate for it would help nobody."""
    with pytest.raises(InputError, match="wanted a host name or an address"):
        make_credentials(tmp_path / "made", 1, [host])
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_which_file_goes_to_whom(tmp_path: Path) -> None:
    """And never shows what is in it."""
    folder = tmp_path / "made"
    call = CliRunner().invoke
    first = call(app, ["credentials", "--nodes", "1", "--output", str(folder)])
    assert first.exit_code == 0
    assert f"For node 0 alone: {folder / 'keys' / 'node_0'}" in first.output
    assert "For all nodes:" in first.output
    words = ["credentials", "--nodes", "1", "--output", str(folder), "--add"]
    second = call(app, words)
    assert second.output.split() == f"For node 1 alone: {folder}/keys/node_1".split()
    refused = call(app, [*words, "--host", "a.org"])
    assert isinstance(refused.exception, InputError)
    assert "PRIVATE KEY" not in first.output + second.output


@pytest.mark.parametrize(("days", "code"), [(29, 1), (40, 0)])
def test_an_end_within_thirty_days_is_warned_of(
    days: int, code: int, tmp_path: Path
) -> None:
    """By the command, whose exit code a timer can act on."""
    folder = tmp_path / "made"
    make_credentials(folder, 1, days=days)
    words = ["credentials", "--check", "--output", str(folder)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == code, done.output
    assert "ca.crt: until" in done.output
    assert "server.pem: until" in done.output
    assert ("Warning" in done.output) == bool(code)
    assert ("--renew" in done.output) == bool(code)


def test_a_node_checks_its_copy_of_the_authority(tmp_path: Path) -> None:
    """It has nothing else; other files are refused."""
    made = make_credentials(tmp_path / "made", 1)
    (ending,) = find_endings(made.authority)
    now = datetime.now(UTC)
    assert ending.days_left(now) in {AUTHORITY_DAYS - 1, AUTHORITY_DAYS}
    assert ending.warn(now) == ""
    late = now + timedelta(days=AUTHORITY_DAYS - 3)
    assert "ends in 2 days" in ending.warn(late)
    assert "ended on" in ending.warn(late + timedelta(days=4))
    with pytest.raises(InputError, match="is no certificate"):
        find_endings(made.node_public_key(0))
    with pytest.raises(InputError, match="holds no certificates"):
        find_endings(tmp_path)


def test_a_renewed_server_is_trusted_by_whoever_trusted_it(tmp_path: Path) -> None:
    """Of the same names, with a new key; the authority stays, and so do nodes."""
    made = make_credentials(tmp_path / "made", 2, HOSTS, days=3)
    before = contents_of(made.folder)
    done = CliRunner().invoke(
        app, ["credentials", "--renew", "--output", str(made.folder)]
    )
    assert done.exit_code == 0, done.output
    after = contents_of(made.folder)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"certificates/server.pem", "certificates/server.key"}
    assert before.keys() == after.keys()
    assert made.server_key.stat().st_mode & 0o777 == 0o600
    renewed = certificate(made.server_certificate)
    assert renewed.not_valid_after_utc > datetime.now(UTC) + timedelta(days=364)
    verifier = PolicyBuilder().store(Store([certificate(made.authority)]))
    name = x509.DNSName("superlink.example.org")
    verifier.build_server_verifier(name).verify(renewed, [])


def test_only_who_has_the_authoritys_key_renews(tmp_path: Path) -> None:
    """A server has it not."""
    made = make_credentials(tmp_path / "made", 0)
    made.authority_key.unlink()
    with pytest.raises(InputError, match="no private key of an authority"):
        renew_server(made.folder)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("ca.key", "other/ca.key"),
        ("ca.crt", "other/ca.crt"),
        ("ca.key", "made/server.key"),
        ("ca.*", "other/ca.*"),
        ("server.pem", "other/server.pem"),
    ],
)
def test_what_another_authority_signs_is_never_written(
    tmp_path: Path, file: str, source: str
) -> None:
    """Nodes trust their own alone, so the working certificate stays."""
    made = make_credentials(tmp_path / "made", 0)
    other = make_credentials(tmp_path / "other", 0)
    folders = {"made": made.authority.parent, "other": other.authority.parent}
    owner, _, pattern = source.partition("/")
    for each in folders[owner].glob(pattern):
        name = each.name if "*" in file else file
        (folders["made"] / name).write_bytes(each.read_bytes())
    before = contents_of(made.folder)
    with pytest.raises(InputError, match=r"(ca\.key|server\.pem): is not"):
        renew_server(made.folder)
    assert contents_of(made.folder) == before
    if file != "ca.key":
        with pytest.raises(InputError, match="not signed by"):
            find_endings(made.folder)


def test_a_damaged_certificate_is_refused_in_words(tmp_path: Path) -> None:
    """Whatever byte of it was changed, by `--renew` and by `--check` alike."""
    made = make_credentials(tmp_path / "made", 0)
    whole = certificate(made.server_certificate).public_bytes(Encoding.DER)
    key = made.server_key.read_bytes()
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        text = b64encode(damaged).decode()
        made.server_certificate.write_text(
            f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"
        )
        for read in (find_endings, renew_server):
            with pytest.raises(InputError, match=r"server\.pem"):
                read(made.folder)
    assert made.server_key.read_bytes() == key


def test_a_certificate_without_names_is_none_of_a_server(tmp_path: Path) -> None:
    """Such as the authority's own."""
    made = make_credentials(tmp_path / "made", 0)
    made.server_certificate.write_bytes(made.authority.read_bytes())
    with pytest.raises(InputError, match="has no names"):
        renew_server(made.folder)


def test_checking_and_renewing_at_once_is_refused(tmp_path: Path) -> None:
    """Neither is silently left out."""
    words = ["credentials", "--check", "--renew", "--output", str(tmp_path)]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, InputError)
