"""The base of every settings class."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen, finite and closed: an unknown key is an error, not a silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
