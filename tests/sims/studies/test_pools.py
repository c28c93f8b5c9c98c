"""A pool, fact by fact."""

import random
from pathlib import Path

from server.config import RunConfig
from sims.studies.pools import fact_of, facts_by_subject, holds_conflicts, read_pool
from strategies.partitioning.settings import RequestsConfig
from strategies.scenario import ModelConfig
from tests.sims.studies.made_up import make_pool


def test_each_fact_is_drawn_once_in_one_of_its_wordings() -> None:
    """All facts are drawn, whatever the seed, and a list is one subject's."""
    pool = make_pool(8)
    wanted = {fact_of(request) for request in pool}
    for seed in range(5):
        found = facts_by_subject(pool, random.Random(seed))
        drawn = [fact_of(request) for facts in found for request in facts]
        assert len(drawn) == len(wanted) == 24
        assert set(drawn) == wanted
        assert all(len({r.subject for r in facts}) == 1 for facts in found)


def test_a_draw_depends_on_the_seed_and_not_on_the_order_of_the_pool() -> None:
    """So that a pool may be written anew."""
    pool = make_pool(8)
    one = facts_by_subject(pool, random.Random(3))
    assert facts_by_subject(pool[::-1], random.Random(3)) == one
    assert facts_by_subject(pool, random.Random(4)) != one


def test_without_a_relation_the_prompt_stands_for_it() -> None:
    """Two wordings are two facts then."""
    first, second, *_ = make_pool(1)
    assert fact_of(first) == fact_of(second)
    bare = [each.model_copy(update={"relation_id": None}) for each in (first, second)]
    assert fact_of(bare[0]) != fact_of(bare[1])


def test_the_pool_is_the_source_that_the_scenario_names(world: Path) -> None:
    """Up to its limit."""
    config = RunConfig(
        model=ModelConfig(path=str(world)), requests=RequestsConfig(limit=5)
    )
    assert len(read_pool(config)) == 5


def test_only_a_list_of_records_with_an_edit_has_the_form_of_conflicts(
    tmp_path: Path,
) -> None:
    """Of any other file, the reader of requests says what is wrong with it."""
    source = tmp_path / "source.json"
    assert not holds_conflicts(source)
    for text in ("[", "[]", "[1]", '{"edit": {}}', '[{"prompt": "edit"}]'):
        source.write_text(text)
        assert not holds_conflicts(source)
    source.write_text('[{"edit": {}}]')
    assert holds_conflicts(source)
