"""Reading a run's settings, and naming what is wrong with them."""

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from editing.base.errors import InputError
from editing.base.validation import inner_model
from server.config import (
    RunConfig,
    default_run_config,
    read_run_config,
    read_scenario,
)
from server.tables import ConfigurationError
from strategies.merges.choice import known_names
from strategies.merges.ties import TiesMerge
from strategies.scenario import flatten
from tests.trees import ROOT

SCENARIOS = sorted((ROOT / "sims" / "scenarios").glob("*.toml"))


def scenario(folder: Path, text: str) -> Path:
    """Write a scenario file."""
    path = folder / "scenario.toml"
    path.write_text(text)
    return path


def flat_items(
    table: dict[str, object], prefix: str = ""
) -> Iterator[tuple[str, object]]:
    """Flatten tables as Flower does."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flat_items(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_the_app_declares_every_key_with_its_default() -> None:
    """Flower refuses keys that pyproject.toml does not list."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = dict(flat_items(project["tool"]["flwr"]["app"]["config"]))
    assert declared == default_run_config()


def test_the_default_scenario_is_the_default() -> None:
    """``flwr run .`` and ``python -m sims run`` do the same job."""
    path = ROOT / "sims" / "scenarios" / "default.toml"
    assert read_scenario(path) == RunConfig()


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_settings_survive_the_flat_form(path: Path) -> None:
    """What the command line read is what the app reads."""
    overrides = ["merge.name=ties", "merge.density=0.5", "editing.layers=[0, 2]"]
    config = read_scenario(path, overrides)
    assert read_run_config(flatten(config)) == config
    assert config.merge.build().merge == TiesMerge(density=0.5)


def nullable_fields(settings: type[BaseModel]) -> Iterator[tuple[str, object]]:
    """Name the fields that may be None, with their defaults."""
    for name, field in settings.model_fields.items():
        table = inner_model(field)
        if table is not None:
            yield from nullable_fields(table)
        elif type(None) in get_args(field.annotation):
            yield name, field.default


def test_what_may_be_unset_is_unset_by_default() -> None:
    """The flat form writes None as the empty text, which means the default."""
    defaults = dict(nullable_fields(RunConfig))
    assert len(defaults) > 5
    assert set(defaults.values()) == {None}


def test_both_spellings_are_one(tmp_path: Path) -> None:
    """MEMIT's names keep their underscores, and ours may be written either way."""
    text = "[editing]\n{}\n[parties]\n{}\n"
    kebab = text.format("v-lr = 0.1", "requests-per-round = 3")
    snake = text.format("v_lr = 0.1", "requests_per_round = 3")
    read = [read_scenario(scenario(tmp_path, each)) for each in (kebab, snake)]
    assert read[0] == read[1] != RunConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[parties]\ncuont = 3", r"`parties\.cuont`.*did you mean `parties\.count`"),
        ("[partys]\ncount = 3", r"`partys`.*did you mean `parties`"),
        ("[parties]\ncount = 'three'", r"`parties\.count`.*whole number.*three"),
        ("[parties]\ncount = true", r"`parties\.count`.*whole number.*true"),
        (
            "[parties]\ncount = 0",
            r"`parties\.count`.*than or equal to 1, got 0",
        ),
        ("[parties]\nconflicts = 'furst'", r"did you mean 'first'\?"),
        ("[prior]\nmemory_weight = 'lamda'", r"a number or 'lambda'.*mean 'lambda'"),
        ("[parties]\nconflicts = 'priority'", r"wants `priority`, a list"),
        ("[parties]\npriority = [1, 1]", r"each at most once; got \[1, 1\]"),
        ("[run]\nrounds = 1.5", r"`run\.rounds`.*whole number.*1\.5"),
        ("[run]\ntimeout = inf", r"`run\.timeout`.*finite"),
        ("[run]\nencoding = 'dens'", r"`run\.encoding`.*did you mean 'dense'"),
        ("[editing]\nschedule = 'layerwis'", r"`editing\.schedule`.*'layerwise'"),
        (
            "[editing]\nlayers = 3",
            r"`editing\.layers`: wanted a list of whole numbers, got 3",
        ),
        ("[editing]\nv_lr = 1\nv-lr = 1", r"`v-lr`.*both spellings"),
        (
            "[merge]\nname = 'tise'",
            rf"'tise'.*{', '.join(known_names())}; .*global",
        ),
        ("[merge]\nname = 'no.where:It'", "no.where"),
        ("[merge]\nname = 'ties'\ndensty = 1", r"`merge\.densty`.*`merge\.density`"),
        ("[merge]\nname = 'ties'\ndensity = 2", r"`merge\.density`.*1, got 2"),
        (
            "[merge]\nname = 'ties'\ndensity = '1'",
            r"`merge\.density`.*a number, got '1'",
        ),
        (
            "[merge]\nname = 'simple-average'\nweights = [1.0, 2.0]",
            r"`merge\.weights` has 2 entries for 10 parties",
        ),
        (
            "[merge]\nname = 'della'\nspread = 0.9\ndensity = 0.9",
            r"density ± spread/2 is 0\.45 to 1\.35",
        ),
        ("[editor]\nname = 'alfaedit'", r"`editor\.name`|'alfaedit'.*alphaedit"),
        ("[editor]\nname = 'no.where:It'", "Cannot load editor `no.where:It`"),
        ("[editor]\nname = 'emmet'\nslak = 1", r"`editor\.slak`.*`editor\.slack`"),
        ("[editor]\nname = 'emmet'\nslack = 0", r"`editor\.slack`.*0, got 0"),
        (
            "[editor]\nname = 'emmet'\n[editing]\nschedule = 'alone'",
            r"under `alone` each party solves by itself.*not by `emmet`",
        ),
        (
            "[editor]\nridge = 1.0\n[editing]\nschedule = 'alone'",
            "not by one with settings",
        ),
        (
            "[editor]\nname = 'ultraedit'\n[editing]\nnorm_anchor = 3.0",
            r"`editing\.norm-anchor`: the editor 'ultraedit' searches for no targets",
        ),
        (
            "[editor]\nname = 'alphaedit'\n[prior]\nweight = 3.0",
            r"`prior\.weight`: the editor 'alphaedit' has weights of its own; leave",
        ),
        (
            "[run]\nmerges = ['tise']",
            r"`run\.merges`.*'tise'.*collabedit-deltas, simple",
        ),
        ("[run]\nmerges = ['ties', 'ties']", r"'ties' is named twice"),
        ("[run]\nmerges = ['no.where:It']", r"Cannot load merge `no\.where:It`"),
        ("[run]\nseed = 2020-01-01", "dates and times"),
        ("[run\n", "is no TOML"),
        ("parties = 3", r"`parties`.*got 3"),
    ],
)
def test_mistakes_are_one_line_that_names_file_and_key(
    tmp_path: Path, text: str, message: str
) -> None:
    """A misspelt or mistyped setting stops the run before it starts."""
    path = scenario(tmp_path, text)
    with pytest.raises(ConfigurationError, match=message) as caught:
        read_scenario(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("parties.cuont=3", "--set parties.cuont: .*`parties.count`"),
        ("parties.count=x", "--set parties.count: .*whole number"),
        ("partys.count=3", "--set partys: .*`parties`"),
        ("count=3", "--set count=3: wanted `table.key=value`"),
        ("parties.count", "--set parties.count: wanted `table.key=value`"),
    ],
)
def test_mistakes_in_overrides_name_the_override(
    tmp_path: Path, override: str, message: str
) -> None:
    """The file is not to blame."""
    path = scenario(tmp_path, "[run]\nrounds = 2")
    with pytest.raises(ConfigurationError, match=message) as caught:
        read_scenario(path, [override])
    assert str(path) not in str(caught.value)


def test_mistakes_in_the_flat_form_name_the_key() -> None:
    """Flower does not check types."""
    flat = {**default_run_config(), "run.rounds": "two"}
    with pytest.raises(ConfigurationError, match=r"run config: `run\.rounds`.*two"):
        read_run_config(flat)


def test_settings_are_validated_before_torch_is_loaded(tmp_path: Path) -> None:
    """A misspelt key, or a misspelt merge, is named at once."""
    path = scenario(tmp_path, "[merge]\nname = 'ties'\n[run]\ncompare = true\n")
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from server.config import read_scenario\n"
        "assert read_scenario(Path(sys.argv[1])).compared\n"
        "print([n for n in ('torch', 'transformers', 'flwr') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_a_missing_scenario_is_named(tmp_path: Path) -> None:
    """And what to give instead."""
    with pytest.raises(ConfigurationError, match=r"none\.toml: cannot be read"):
        read_scenario(tmp_path / "none.toml")


def test_overrides_are_typed_as_toml_is(tmp_path: Path) -> None:
    """A bare word is a text; later overrides win."""
    path = scenario(tmp_path, "[parties]\ncount = 2\n[merge]\nname = 'global'")
    config = read_scenario(
        path,
        [
            "parties.count=9",
            "parties.count=3",
            "parties.requests-per-round=[1, 2, 3]",
            "merge.name=ties",
            "run.compare=true",
        ],
    )
    assert config.parties.sizes_of(1) == (1, 2, 3)
    assert config.merge.name == "ties"
    assert config.run.compare


def test_paths_start_at_the_file_or_at_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scenario can be run from anywhere; a typed path means what a shell would."""
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    (home / "model").mkdir(parents=True)
    path = scenario(
        home,
        "[model]\npath = 'model'\n[requests]\nsource = 'mine.json'\n"
        "[editing]\nhyperparameters = '../hparams.json'",
    )
    config = read_scenario(path, ["prior.text=text.txt"])
    assert config.model.path == str(home / "model")
    assert config.requests.source == str(home / "mine.json")
    assert config.editing.hyperparameters == str(tmp_path / "hparams.json")
    assert config.prior.text == str(tmp_path / "text.txt")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("text", "self"),
        ("text", "hub:wikimedia/wikipedia:20231101.en@train"),
        ("covariance", '["/a/1.npz", "/a/2.npz"]'),
    ],
)
def test_what_the_prior_is_counted_on_need_not_be_a_path(
    tmp_path: Path, key: str, value: str
) -> None:
    """A word, a data set of the hub, and a list of files stay as they are."""
    config = read_scenario(scenario(tmp_path, f"[prior]\n{key} = '{value}'"))
    assert getattr(config.prior, key) == value
    assert getattr(read_run_config(flatten(config)).prior, key) == value


def test_a_list_of_covariance_files_starts_where_one_file_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the scenario's folder or the shell's, and it survives the flat form."""
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    written = '["a.npz", "../b.npz", "/c.npz"]'
    path = scenario(tmp_path / "home", f"[prior]\ncovariance = {written}")
    config = read_scenario(path)
    there = (str(tmp_path / "home" / "a.npz"), str(tmp_path / "b.npz"), "/c.npz")
    assert config.prior.covariance == there
    assert read_run_config(flatten(config)) == config
    typed = read_scenario(path, [f"prior.covariance={written}"]).prior.covariance
    second = str(tmp_path.parent / "b.npz")
    assert typed == (str(tmp_path / "a.npz"), second, "/c.npz")


@pytest.mark.parametrize("written", ["3", "[1, 2]", "[['a.npz']]"])
def test_a_covariance_that_is_neither_text_nor_list_of_texts_is_refused(
    tmp_path: Path, written: str
) -> None:
    """Both are named."""
    path = scenario(tmp_path, f"[prior]\ncovariance = {written}")
    wanted = r"`prior\.covariance`: wanted a text or a list of texts, got "
    with pytest.raises(ConfigurationError, match=wanted):
        read_scenario(path)


@pytest.mark.parametrize("name", ["gpt2-xl", "Qwen2.5-7B"])
def test_a_preset_is_not_looked_for_in_the_scenarios_folder(
    tmp_path: Path, name: str
) -> None:
    """Nor in the shell's, and it survives the flat form; ``./`` makes it a file."""
    (tmp_path / name).mkdir()
    path = scenario(tmp_path, f"[editing]\nhyperparameters = '{name}'")
    for config in (
        read_scenario(path),
        read_scenario(path, [f"editing.hyperparameters={name}"]),
        read_run_config(flatten(read_scenario(path))),
    ):
        assert config.editing.hyperparameters == name
    path = scenario(tmp_path, f"[editing]\nhyperparameters = './{name}'")
    found = read_scenario(path).editing.hyperparameters
    assert found == str(tmp_path / name)


@pytest.mark.parametrize("name", ["gpt2", "EleutherAI/gpt-j-6b", "embedded", "larger"])
def test_names_that_are_no_paths_stay(tmp_path: Path, name: str) -> None:
    """A hub id is not looked for in the scenario's folder."""
    path = scenario(tmp_path, f"[model]\npath = '{name}'")
    assert read_scenario(path).model.path == name


@pytest.mark.parametrize("source", ["hub:azhx/counterfact@test", "hub:a/b:c/d.json"])
def test_a_data_set_of_the_hub_is_no_path(tmp_path: Path, source: str) -> None:
    """Nor of the shell's folder, and its name survives the flat form."""
    path = scenario(tmp_path, f"[requests]\nsource = '{source}'")
    for config in (
        read_scenario(path),
        read_scenario(path, [f"requests.source={source}"]),
        read_run_config(flatten(read_scenario(path))),
    ):
        assert config.requests.source == source


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('requests.source = "~nobody-of-this-name/x"', "requests.source"),
        ('model.path = "~nobody-of-this-name/x"', "model.path"),
        ('prior.covariance = ["~nobody-of-this-name/x"]', "prior.covariance"),
    ],
)
def test_a_home_that_nobody_has_is_refused_by_its_key(
    tmp_path: Path, line: str, key: str
) -> None:
    """As one line, not as an error of the program."""
    with pytest.raises(InputError, match=f"`{key}`: .*home folder that is not known"):
        read_scenario(scenario(tmp_path, line))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("count = 4\nwithout = [4]", r"`without` lists parties by number, 0 to 3"),
        ("count = 2\nwithout = [1, 0]", "`without` leaves out all 2 parties"),
    ],
)
def test_only_parties_are_left_out_and_not_all_of_them(
    tmp_path: Path, lines: str, said: str
) -> None:
    """Before the run, or its last round would be waited for in vain."""
    with pytest.raises(ConfigurationError, match=said):
        read_scenario(scenario(tmp_path, f"[parties]\n{lines}"))
    read_scenario(scenario(tmp_path, "[parties]\ncount = 4\nwithout = [3, 3, 0]"))
