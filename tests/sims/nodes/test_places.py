"""Laws of places: what no server can have is none, and no two listen at one."""

import pytest

from editing.base.errors import InputError
from sims.nodes.places import collide, require_place

TAKEN = """
127.0.0.1:8000 [::1]:443 [::]:1 a:65535 a-b.example.org:80 superlink:8000 3com.com:80
"""

REFUSED = """
:80 a a: a:0 a:65536 a:\u0669 a:8_0 a:+8 [::::::]:80 []:80 ::1:80 [1.2.3.4]:80
[fe80::1%eth0]:80 ...:80 ..:80 a..b:80 -a-:80 a-:80 a_b:80 \u00e9:80 999.1.1.1:80
1.2.3:80 1:80 \u0661.1.1.1:80
"""


@pytest.mark.parametrize("place", [*TAKEN.split(), f"{'a' * 63}:80"])
def test_places_are_taken(place: str) -> None:
    """Names, addresses, and those of IPv6 in brackets."""
    require_place("superlink", place)


@pytest.mark.parametrize(
    "place",
    [*REFUSED.split(), "", "a: 8", "a\n:80", f"{'a' * 64}:80", f"{'a.' * 127}a:80"],
)
def test_what_is_no_place_is_refused_in_one_line(place: str) -> None:
    """Labels as in RFC 1123, addresses as `ipaddress` reads them, digits of ASCII."""
    with pytest.raises(InputError, match=r"--superlink .+: wanted a host and a port"):
        require_place("superlink", place)


@pytest.mark.parametrize(
    ("listen", "other", "expected"),
    [
        ("8000", "127.0.0.1:8000", True),
        ("08000", "localhost:8000", True),
        ("[::]:8000", "[::1]:8000", True),
        ("0.0.0.0:8000", "127.0.0.1:8000", True),
        ("LocalHost:8000", "127.0.0.1:8000", True),
        ("a.org:8000", "A.org:8000", True),
        ("8000", "superlink:8000", False),
        ("8443", "127.0.0.1:8000", False),
        ("10.0.0.5:8000", "127.0.0.1:8000", False),
    ],
)
def test_who_listens_where_another_does_collides(
    listen: str, other: str, *, expected: bool
) -> None:
    """On this machine; another machine's port may be the same."""
    assert collide(listen, other) == expected
