"""What a party keeps of secure sums, on its own disk.

Each message of a deployment meets a new process, so keys wait in a small file from one
message to the next; each is removed once it has been used. What has been given stays
for as long as the run does, so that no sum is given twice, of other parties.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ValidationError

from editing.base.errors import InputError
from editing.base.settings import Settings
from editing.files.atomic import write_private
from strategies.secure.records import Members, PublicKeys, Session

Kind = TypeVar("Kind", bound=Settings)


class OwnSum(Settings):
    """A party's secrets of one sum.

    Attributes:
        private: The X25519 key that its pairwise masks are agreed on with.
        seed: Of its own mask.
        share: Its own share of that seed; empty before shares are made.
        status: Whether it is still to be masked, or waits to be unmasked.
        members: Parties whose masks cancel; empty before it is masked.
    """

    private: str
    seed: str
    share: str = ""
    status: Literal["open", "masked"] = "open"
    members: Members = ()


class OwnSession(Settings):
    """A party's secrets of one session.

    Attributes:
        session: Which one.
        sharing: The X25519 key for shares that are sealed for it.
        sums: By name; one that has been unmasked is no longer there.
        members: The keys of all parties; empty before they are known.
    """

    session: Session
    sharing: str
    sums: Mapping[str, OwnSum]
    members: tuple[PublicKeys, ...] = ()


class Given(Settings):
    """What a party has given of a part of the run, over all its sessions.

    Attributes:
        attempts: The last attempt of each start of the run.
        sums: By round and sum, the parties whose numbers were in it.
    """

    attempts: Mapping[str, int] = {}
    sums: Mapping[str, Members] = {}


@dataclass(frozen=True, slots=True)
class SecretFiles:
    """The files of one party and one part of the run.

    Attributes:
        folder: Readable by its owner alone.
        party: The party's number.
    """

    folder: Path
    party: int

    def find_session(self) -> OwnSession | None:
        """Return the session under way; None if there is none."""
        return _read(self._session, OwnSession)

    def keep_session(self, session: OwnSession) -> None:
        """Replace the session under way."""
        write_private(self._session, session.model_dump_json())

    def find_given(self) -> Given:
        """Return what has been given."""
        return _read(self._given, Given) or Given()

    def keep_given(self, given: Given) -> None:
        """Keep what has been given, before the answer leaves."""
        write_private(self._given, given.model_dump_json())

    @property
    def _session(self) -> Path:
        return self.folder / f"session_{self.party}.json"

    @property
    def _given(self) -> Path:
        return self.folder / f"given_{self.party}.json"


def _read(path: Path, kind: type[Kind]) -> Kind | None:
    """Read a file of this module; None if there is none.

    Raises:
        InputError: If it holds something else: what was given must not be forgotten.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        raise InputError(
            f"{path}: is no record of secure sums. Something else wrote it; remove it "
            "if the run is over."
        ) from None
