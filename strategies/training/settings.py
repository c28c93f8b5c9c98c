"""What a training does not do, and so refuses to be asked for."""

from collections.abc import Callable

from editing.base.errors import InputError
from editing.malmen.settings import TrainingSettings
from strategies.partitioning.settings import PartiesConfig
from strategies.scenario import PrivacyConfig


def refuse_unheeded(
    training: TrainingSettings,
    parties: PartiesConfig,
    privacy: PrivacyConfig,
    compare: bool,
    origin: Callable[[str], str],
) -> None:
    """Refuse settings that a training would not heed.

    Args:
        training: Of the run.
        parties: Its parties.
        privacy: What its server learns.
        compare: Whether it compares merges.
        origin: Says for a dotted key where it was written.

    Raises:
        InputError: Naming the first.
    """
    given = {
        "run.compare": compare,
        "privacy.secure-sum": bool(privacy.secure_sum),
        "parties.deduplicate": parties.deduplicate,
        "parties.conflicts": parties.conflicts != "ignore",
        "parties.skip-known": parties.skip_known is not None,
    }
    for key, on in given.items():
        if training.steps > 0 and on:
            raise InputError(
                f"{origin(key)}: a training (`training.steps`) does not heed `{key}`; "
                "leave it out, or set `training.steps` to 0"
            )
