"""Names of modules are those that a user gives, and no others."""

from editing.models.families import Architecture
from editing.models.module_names import ModuleNames


def test_only_names_that_are_given_replace_those_of_a_family() -> None:
    """Under the fields of the architecture."""
    assert ModuleNames().given == {}
    names = ModuleNames(block="blocks.{}", head="out")
    assert names.given == {"block": "blocks.{}", "head": "out"}
    assert ModuleNames.model_fields.keys() <= Architecture.model_fields.keys()
