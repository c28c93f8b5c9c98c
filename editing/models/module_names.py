"""Names of a model's modules, where a user gives them."""

from editing.base.settings import Settings


class ModuleNames(Settings):
    """Modules that come before those known of a family; ``{}`` is the block's number.

    Each field is the one of `editing.models.families.Architecture` that it replaces.
    """

    block: str | None = None
    down_projection: str | None = None
    final_norm: str | None = None
    head: str | None = None

    @property
    def given(self) -> dict[str, str]:
        """Return the names that are given, by field."""
        return self.model_dump(exclude_none=True)
