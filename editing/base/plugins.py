"""Settings classes that are found by a word or by an import path.

Reading a name loads no class: whoever validates settings need not wait for torch.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Generic, TypeVar

from pydantic import Field, JsonValue, model_validator

from editing.base.errors import InputError
from editing.base.settings import Settings

Kind = TypeVar("Kind", bound=Settings)


class Choice(Settings):
    """A class by name or import path, with its own settings next to the name.

    A scenario writes them so. Flower's flat form has them as one JSON object, because
    Flower admits only keys that it knows.

    Attributes:
        name: The word or the import path.
        settings: The class's own settings.
    """

    name: str
    settings: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def gather_settings(cls, table: object) -> object:
        """Move the keys next to the name into `settings`."""
        if not isinstance(table, dict) or "settings" in table:
            return table
        own = {key: value for key, value in table.items() if key != "name"}
        named = {key: value for key, value in table.items() if key == "name"}
        return {**named, "settings": own}


@dataclass(frozen=True, slots=True)
class Plugins(Generic[Kind]):
    """All classes of one kind: those of the tree by name, others by import path.

    Attributes:
        kind: What an error calls one, such as ``merge``.
        base: ``package.module:ClassName`` of the class that they derive from.
        known: The classes of the tree by name, in the order of reports.
        wanted: Attributes that a class must define.
        abstract: Its abstract method.
        besides: What else an unknown name may have meant.
    """

    kind: str
    base: str
    known: Mapping[str, str]
    wanted: tuple[str, ...]
    abstract: str
    besides: str = ""

    def read(self, choice: str | Mapping[str, object]) -> Kind:
        """Build one from its name, or from a table of its name and settings.

        The import path of a class from outside the tree becomes its name, unless the
        class has given it one. A wrong setting is pydantic's ``ValidationError``.
        """
        table = dict({"name": choice} if isinstance(choice, str) else choice)
        found = self.find(table.get("name"))
        if not found.model_fields["name"].is_required():
            del table["name"]
        return found.model_validate(table)

    def find(self, name: object) -> type[Kind]:
        """Look up a class by its word or, if that has a colon, its import path.

        A name of none is an `InputError`.
        """
        self.check(name)
        return self._load(self.known.get(str(name), str(name)))

    def check(self, name: object) -> None:
        """Refuse a name that is neither known nor an import path; load nothing.

        Raises:
            InputError: If it is neither.
        """
        if not isinstance(name, str) or not (name in self.known or ":" in name):
            raise InputError(
                f"Unknown {self.kind} {name!r}. Known are {', '.join(self.known)}; "
                f"{self.besides}one from outside the tree is named "
                "`package.module:ClassName`."
            )

    def _load(self, reference: str) -> type[Kind]:
        """Import a class.

        Raises:
            InputError: If there is no such class, or it is not complete.
        """
        try:
            loaded = _import(reference)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise InputError(
                f"Cannot load {self.kind} `{reference}`: {error}. Wanted "
                "`package.module:ClassName` of a module that Python can import from "
                "here."
            ) from error
        base: type[Kind] = _import(self.base)
        if not (isinstance(loaded, type) and issubclass(loaded, base)):
            raise InputError(
                f"`{reference}` is no {self.kind}: derive it from "
                f"`{self.base.replace(':', '.')}`."
            )
        missing = [word for word in self.wanted if not hasattr(loaded, word)]
        if inspect.isabstract(loaded):
            missing.append(self.abstract)
        if missing:
            raise InputError(
                f"{self.kind.capitalize()} `{reference}` does not define "
                f"{', '.join(missing)}."
            )
        return loaded


def _import(reference: str) -> Any:  # noqa: ANN401 - whatever is there
    module, _, attribute = reference.partition(":")
    return getattr(import_module(module), attribute)
