"""What editors cost is counted from what they send."""

from editing.editors.choice import EDITORS
from sims.sizes.by_editor import ANSWER_TOKENS
from sims.sizes.editors import list_editors
from sims.sizes.shapes import read_shape


def test_every_editor_is_listed_with_what_a_party_sends() -> None:
    """Rows of keys and residuals by request, or of keys and values by token.

    Those that standardise send moments first: a count, sums and squares of keys and
    gradients, and half of a matrix where gradients are whitened.
    """
    shape, requests = read_shape("gpt-j-6b"), 10
    layers, width = len(shape.layers), shape.d_in + shape.d_out
    found = {each.name: each for each in list_editors(shape, requests)}
    assert list(found) == list(EDITORS)
    for name, each in found.items():
        standardises = name in {"ultraedit", "stableedit"}
        at_answers = standardises or name == "malmen"
        rows = requests * (ANSWER_TOKENS if at_answers else 1)
        moments = 1 + 2 * width if standardises else 0
        if name == "stableedit":
            moments += shape.d_out * (shape.d_out + 1) // 2
        assert each.bytes_up == 8 * (layers * rows * width + moments)
        once = 2 if standardises else 1
        assert each.exchanges == (once if at_answers else layers)
        assert ("hypernetwork" in each.reads) == (name == "malmen")
        assert each.reads.startswith("answer" if at_answers else "subject")
