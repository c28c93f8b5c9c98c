"""Pages, parsed: for tests that ask what a reader's program finds in them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "hr", "input"}


@dataclass
class Element:
    """An element of a page.

    Attributes:
        attributes: By name.
        inside: Text and elements, in their order.
    """

    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    inside: list["Element | str"] = field(default_factory=list)

    def all(self, name: str) -> list["Element"]:
        """Return the elements of a name within this one, in the page's order."""
        return [each for each in self._walk() if each.name == name]

    @property
    def text(self) -> str:
        """All text within this one."""
        return "".join(
            each if isinstance(each, str) else each.text for each in self.inside
        )

    def _walk(self) -> Iterator["Element"]:
        for each in self.inside:
            if isinstance(each, Element):
                yield each
                yield from each._walk()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("page")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].inside.append(found)
        if tag not in VOID:
            self.open.append(found)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, f"</{tag}> ends <{self.open[-1].name}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].inside.append(data)


def read_page(html: str) -> Element:
    """Parse a page; an element that is not closed, or closed twice, is an error."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert [each.name for each in reader.open] == ["page"]
    return reader.open[0]


def rows_of(table: Element) -> list[list[str]]:
    """Return the text of a table's cells, the heads first."""
    return [
        [each.text for each in row.inside if isinstance(each, Element)]
        for row in table.all("tr")
    ]
