"""What parties keep is copied to the results for their owner alone."""

import json
from pathlib import Path

import pytest

from sims.runs.cases import OWN_STATISTICS, gather_cases


def keep_cases(private: Path, label: str, rounds: int) -> None:
    """Write the cases of a party, as its node does."""
    for number in range(1, rounds + 1):
        file = private / "run" / "cases" / label / f"round_{number}" / "party_0.jsonl"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"case_id": 3, "prompt": "Ada is"}) + "\n")


@pytest.mark.parametrize("merges", [(), ("ties", "collabedit")])
@pytest.mark.parametrize("rounds", [1, 2])
def test_gathered_cases_admit_their_owner_alone(
    tmp_path: Path, merges: tuple[str, ...], rounds: int
) -> None:
    """Cases hold requests: files 0600, in folders 0700, whatever the umask."""
    results, private = tmp_path / "results", tmp_path / "private"
    results.mkdir(mode=0o755)
    for merge in merges or ("ties",):
        keep_cases(private, merge, rounds)
        if merges:
            (results / merge).mkdir(mode=0o755)
    gather_cases(private, results, rounds)
    files = [each for each in results.rglob("*") if each.is_file()]
    assert len(files) == max(len(merges), 1) * (1 + (rounds if rounds > 1 else 0))
    assert {each.stat().st_mode & 0o777 for each in files} == {0o600}
    folders = [results, *(each for each in results.rglob("*") if each.is_dir())]
    assert {each.stat().st_mode & 0o777 for each in folders} == {0o700}


def test_what_parties_added_to_secure_sums_is_gathered_too(tmp_path: Path) -> None:
    """Of each node, for the owner alone; the results may be of several merges."""
    private, results = tmp_path / "private", tmp_path / "results"
    keep_cases(private, "ties", 1)
    (results / "ties").mkdir(parents=True)
    for party in (0, 1):
        kept = private / f"node_{party}" / "run" / "statistics" / "ties" / "round_001"
        kept.mkdir(parents=True)
        (kept / f"targets.layer_3.party_{party}.safetensors").write_bytes(b"own")
    gather_cases(private, results, 1)
    found = sorted((results / "ties" / OWN_STATISTICS / "round_001").iterdir())
    assert [each.name.split(".", 2)[2] for each in found] == [
        "party_0.safetensors",
        "party_1.safetensors",
    ]
    for each in found:
        assert each.read_bytes() == b"own"
        assert each.stat().st_mode & 0o777 == 0o600


def test_without_cases_the_results_stay_as_they_are(tmp_path: Path) -> None:
    """There is nothing private in them."""
    results = tmp_path / "results"
    results.mkdir(mode=0o755)
    gather_cases(tmp_path / "private", results, 1)
    assert results.stat().st_mode & 0o777 == 0o755
