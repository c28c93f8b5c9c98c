"""Swept settings."""

from itertools import product

import pytest

from editing.base.errors import InputError
from sims.paper.sweep import read_sweep, read_sweeps


def test_several_sweeps_are_combined_every_way() -> None:
    """Each point has a value of each, numbers as numbers."""
    points = read_sweeps(["prior.weight=100,3e2", "editing.schedule=layerwise,alone"])
    wanted = product(("100", "3e2"), ("layerwise", "alone"))
    assert [point.settings for point in points] == [
        (f"prior.weight={weight}", f"editing.schedule={schedule}")
        for weight, schedule in wanted
    ]
    assert points[-1].labels == (("prior.weight", 300.0), ("editing.schedule", "alone"))


def test_commas_in_brackets_and_quotation_marks_belong_to_a_value() -> None:
    """Or lists of layers could not be swept."""
    (first, _), (second, _) = read_sweep("editing.layers=[0,1],[1]")
    assert (first, second) == ("editing.layers=[0,1]", "editing.layers=[1]")
    settings = [each for each, _ in read_sweep('model.path="a,b",c')]
    assert settings == ['model.path="a,b"', "model.path=c"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["prior.weight"], "wanted `table.key=value,value,…`"),
        (["weight=1,2"], "wanted `table.key=value,value,…`"),
        (["prior.weight=1,,2"], "wanted `table.key=value,value,…`"),
        (["prior.weight=1,1"], "names a value twice"),
        (["prior.weight=100,1e2"], "names a value twice"),
        (["prior.weight=1", "prior.weight=2"], "is given twice"),
        (["run.seed=1,2"], "is what --seeds is for"),
        (["merge.name=ties"], "is what --merges is for"),
    ],
)
def test_what_is_no_sweep_is_refused_by_the_options_name(
    texts: list[str], message: str
) -> None:
    """Before anything is run."""
    with pytest.raises(InputError, match=f"--sweep .*{message}"):
        read_sweeps(texts)
