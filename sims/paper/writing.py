"""Tables, figures and pages of a paper or comparison, into its folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from editing.base.origin import find_origin
from editing.files.atomic import write_whole
from editing.files.json_text import dump_json
from server.report.plots import Picture, no_pictures
from sims.paper.document import INCLUDED
from sims.paper.pages import (
    Facts,
    PartText,
    render_included,
    render_index,
    render_markdown,
    render_table,
)
from sims.paper.sections import Section
from sims.paper.tables import (
    MeanTable,
    combine,
    describe,
    write_csv,
    write_markdown,
    write_tex,
)
from sims.studies.answers import draw_answers
from sims.studies.page import Account, write_page
from sims.studies.running.digests import describe_versions
from sims.studies.running.record import TABLES
from sims.studies.running.scenario_file import write_scenario
from sims.studies.study import Figure, Study, TrialResult

TITLES = {"paper": "Collaborative editing: tables and figures", "compare": "Comparison"}


@dataclass(frozen=True, slots=True)
class Made:
    """How the trials were made.

    Attributes:
        command: Makes them again.
        seconds: Wall time of those that were run.
        seeds: Each trial was run once for each.
    """

    command: str
    seconds: float
    seeds: tuple[int, ...]


def write_all(
    name: str,
    sections: Sequence[Section],
    results: Mapping[str, Sequence[TrialResult]],
    made: Made,
    folder: Path,
) -> str:
    """Write everything; gives the findings, a line a part."""
    for place in ("tables", "figures", "scenarios"):
        (folder / place).mkdir(exist_ok=True)
    parts = [
        write_part(section, results[section.name], made, folder) for section in sections
    ]
    facts = Facts(
        title=TITLES[name],
        origin=find_origin(made.command),
        seconds=add_seconds(results),
        versions=describe_versions(),
        trials=sum(map(len, results.values())),
    )
    record = {
        "kind": name,
        "command": made.command,
        "seconds": made.seconds,
        "seeds": list(made.seeds),
        "versions": dict(facts.versions),
        "parts": [
            {
                "name": part.name,
                "finding": part.finding,
                "tables": [describe(table) for table in part.tables],
            }
            for part in parts
        ],
    }
    write_whole(folder / TABLES, dump_json(record, 2) + "\n")
    write_whole(folder / "index.html", render_index(facts, parts))
    write_whole(folder / "index.md", render_markdown(facts, parts))
    write_whole(folder / INCLUDED, render_included(facts, parts))
    return "\n".join(f"{part.title}: {part.finding}" for part in parts)


def add_seconds(results: Mapping[str, Sequence[TrialResult]]) -> float:
    """Add up the wall times of all trials' runs, of shared ones once."""
    each = {r.folder: r.report.seconds for own in results.values() for r in own}
    return sum(each.values())


def write_part(
    section: Section, results: Sequence[TrialResult], made: Made, folder: Path
) -> PartText:
    """Write the page, tables and figures of a part."""
    study, config = section.study, section.config
    account = Account(
        command=made.command,
        seconds=sum(result.report.seconds for result in results),
        settings=config.model_dump(mode="json"),
    )
    pages = folder / "parts" / section.name
    pages.mkdir(parents=True, exist_ok=True)
    finding = write_page(study, results, account, pages)
    write_whole(
        folder / "scenarios" / f"{section.name}.toml",
        write_scenario(config, config.requests.source),
    )
    tables = make_tables(section.name, study, results)
    figures = draw_all(study, results)
    for table in tables:
        for form, text in (
            ("csv", write_csv(table)),
            ("tex", write_tex(table)),
            ("md", write_markdown(table) + "\n"),
            ("html", render_table(table)),
        ):
            write_whole(folder / "tables" / f"{table.name}.{form}", text)
    pictures = []
    for place, figure in enumerate(figures, start=1):
        stem = section.name if place == 1 else f"{section.name}-{place}"
        pictures.append((stem, figure))
        write_picture(folder / "figures" / stem, figure)
    return PartText(
        section.name, study.title, study.question, finding, tables, pictures
    )


def title_of(study: Study, figure: Figure) -> str:
    """Name a study's table, by the study as well."""
    if figure.title == study.title:
        return study.title
    return f"{study.title}. {figure.title}"


def write_picture(path: Path, figure: Figure) -> None:
    """Write a figure for the web and for print; one without a picture has no file."""
    if isinstance(figure.picture, Picture):
        write_whole(path.with_suffix(".svg"), figure.picture.save("svg"))
        write_whole(path.with_suffix(".pdf"), figure.picture.save("pdf"))


def draw_all(study: Study, results: Sequence[TrialResult]) -> list[Figure]:
    """Draw a study's figures, generated answers last."""
    return [*study.draw(study.tabulate(results)), *draw_answers(results)]


def make_tables(
    name: str, study: Study, results: Sequence[TrialResult]
) -> list[MeanTable]:
    """Make the tables of a study for each seed, and average them."""
    definitions = {
        metric: own
        for result in results
        for metric, own in result.report.define_metrics().items()
    }
    seeds = dict.fromkeys(result.seed for result in results)
    with no_pictures():
        drawn = {
            seed: draw_all(study, [each for each in results if each.seed == seed])
            for seed in seeds
        }
    first, *_ = drawn.values()
    return [
        combine(
            {seed: figures[place].table for seed, figures in drawn.items()},
            name if place == 0 else f"{name}-{place + 1}",
            title_of(study, figure),
            figure.caption,
            definitions,
        )
        for place, figure in enumerate(first)
    ]
