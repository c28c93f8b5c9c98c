"""Tables in LaTeX."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.report.tables import TableText
from sims.latex import SIGNS, escape, write_latex

TABLE = TableText(
    ["Editor", "Merge", "Score", "To global"],
    [
        ["memit", "task_arithmetic", "91.9 ± 0.3", "2.0e-06 ± 1.1e-07"],
        ["memit", "50 % & more", "-4.0", "–"],
        ["emmet", "γ = λ", "[1]", "0.77"],
    ],
    2,
)


def cells_of(text: str) -> list[list[str]]:
    """Read a table's cells, where no cell holds an ampersand."""
    body = text.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
    rows = [line for line in body.split("\n") if line.endswith(r" \\")]
    return [re.split(r"(?<!\\) & ", row.removesuffix(r" \\")) for row in rows]


def test_a_table_is_drawn_by_booktabs() -> None:
    """A rule below the heads, one between groups, and each row whole."""
    text = write_latex(TABLE, "my table", "Of 100 % of `a_b`.", {(0, 2)})
    lines = text.split("\n")
    places = [lines.index(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")]
    assert places == sorted(places)
    assert lines.count(r"\midrule") == 2
    assert lines[lines.index(r"\begin{tabular}{llrr}") + 1] == r"\toprule"
    assert r"\caption{Of 100 \% of \texttt{a\_b}.}" in lines
    assert r"\label{tab:my-table}" in lines
    assert cells_of(text) == [
        ["Editor", "Merge", "Score", "To global"],
        [
            "memit",
            r"task\_arithmetic",
            r"\textbf{91.9 $\pm$ 0.3}",
            r"$2.0 \cdot 10^{-6}$ $\pm$ $1.1 \cdot 10^{-7}$",
        ],
        ["memit", r"50 \% \& more", "$-$4.0", "--"],
        ["emmet", r"$\gamma$ = $\lambda$", "{[1]}", "0.77"],
    ]


@pytest.mark.parametrize("sign", sorted(SIGNS))
def test_every_sign_is_escaped(sign: str) -> None:
    """Wherever it stands."""
    assert escape(f"a{sign}b") == f"a{SIGNS[sign]}b"


@given(st.text())
def test_an_escaped_text_begins_and_ends_no_group(text: str) -> None:
    """So that no name of others can break a table, or call a command of LaTeX."""
    escaped = escape(text)
    for command in dict.fromkeys([*SIGNS.values(), r"\cdot"]):
        escaped = escaped.replace(command, "")
    bare = re.sub(r"\$[\d. ^{}-]*\$", "", escaped)
    assert not set(bare) & set("\\{}&%#_^~\n\r")
