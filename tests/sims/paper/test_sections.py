"""What a paper is made of, and what is refused before anything runs."""

from pathlib import Path

import pytest

from editing.base.errors import InputError
from sims.cli.options import SCENARIOS
from sims.cli.study import LOADERS
from sims.paper.sections import (
    compare_sections,
    paper_sections,
    share_settings,
    studies_of,
)
from sims.studies.running.order import Order


def test_a_paper_is_one_round_several_and_the_studies_it_names() -> None:
    """Each over its own scenario."""
    order = Order(seeds=(0, 1), options=("--studies", "scale,conflict"))
    sections = paper_sections(order, LOADERS, SCENARIOS)
    assert [each.name for each in sections] == ["single", "rounds", "scale", "conflict"]
    assert [each.scenario.stem for each in sections] == [
        "paper",
        "paper",
        "scale",
        "conflict",
    ]
    single, rounds, *_ = (each.plan() for each in sections[:2])
    assert {len(each.trial.rounds) for each in single} == {1}
    assert {len(each.trial.rounds) for each in rounds} == {2}
    assert {each.seed for each in single} == {0, 1}


def test_studies_have_the_papers_model_and_requests(tmp_path: Path) -> None:
    """And sizes of their own."""
    file = tmp_path / "mine.toml"
    file.write_text(
        'model.path = "mine"\nrequests.source = "pool.json"\nparties.count = 3\n'
        "prior.weight = 7.5\nediting.layers = [1, 2]\n"
    )
    assert set(share_settings(file)) == {
        f'model.path="{tmp_path / "mine"}"',
        f'requests.source="{tmp_path / "pool.json"}"',
        "prior.weight=7.5",
        "editing.layers=[1, 2]",
    } or 'model.path="mine"' in share_settings(file)
    assert share_settings(None) == ()


def test_all_studies_can_be_part_of_a_paper() -> None:
    """Those to come as well: who adds a command adds how it is made."""
    from sims.cli.study import app

    names = {command.name for command in app.registered_commands}
    assert set(LOADERS) == names
    for name in names:
        assert (SCENARIOS / f"{name}.toml").is_file()
        assert LOADERS[str(name)](Order()).name == name
    assert studies_of(Order(options=("--studies", "none")), LOADERS) == ()


def test_rounds_are_not_swept_in_a_paper() -> None:
    """One part has a single round, whatever is swept; a comparison may sweep them."""
    order = Order(SCENARIOS / "default.toml", options=("--sweep", "run.rounds=1,2"))
    with pytest.raises(InputError, match="sweep it with `compare`"):
        paper_sections(order, LOADERS, SCENARIOS)
    (section,) = compare_sections(order)
    assert section.config.run.rounds == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--studies", "scael"), "--studies: there is no study 'scael'"),
        (("--merges", "ties,,global"), "--merges ties,,global: wanted names"),
        (("--merges", "tise"), "--merges: .*tise"),
        (("--editors", "memitt"), "--editors: .*memitt"),
        (("--sweep", "prior.wieght=1,2"), "--sweep prior.wieght: .*wieght"),
        (("--sweep", "parties.count=1,many"), "--sweep parties.count: .*many"),
        (("--sweep", "parties.count=0,1"), "--sweep parties.count: "),
    ],
)
def test_a_mistake_is_refused_by_the_options_name(
    options: tuple[str, str], message: str
) -> None:
    """For a paper and, where it has the option, for a comparison."""
    order = Order(SCENARIOS / "default.toml", options=options)
    with pytest.raises(InputError, match=message):
        paper_sections(order, LOADERS, SCENARIOS)
    if options[0] != "--studies":
        with pytest.raises(InputError, match=message):
            compare_sections(order)
