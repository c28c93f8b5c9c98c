"""Tables in LaTeX, as the package booktabs draws them."""

import re
from collections.abc import Collection, Sequence

from server.report.tables import TableText

SIGNS = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "√": r"$\surd$",
    "‖": r"$\|$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "γ": r"$\gamma$",
    "δ": r"$\delta$",
    "λ": r"$\lambda$",
    "ρ": r"$\rho$",
    "σ": r"$\sigma$",
    "Δ": r"$\Delta$",
    "Σ": r"$\Sigma$",
    **{"₀₁₂₃₄₅₆₇₈₉"[digit]: f"$_{digit}$" for digit in range(10)},
    "⁻": "$^-$",
    "¹": "$^1$",
    "²": "$^2$",
}
"""What LaTeX writes otherwise; pdfLaTeX has no Greek letters of its own."""

_POWER = re.compile(r"(\d(?:\.\d+)?)e([+-]?)0*(\d+)")
_NEGATIVE = re.compile(r"(?<![\w-])-(?=\d)")
_CODE = re.compile(r"`([^`]*)`")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")

Place = tuple[int, int]
"""A cell: its row, and its column, both from 0."""


def escape(text: str) -> str:
    """Write a text so that LaTeX prints it, whatever signs it holds.

    Numbers get their minus, and powers of ten for an exponent.
    """
    plain = _CONTROLS.sub(" ", text)
    signs = "".join(SIGNS.get(sign, sign) for sign in plain)
    return _POWER.sub(_write_power, _NEGATIVE.sub("$-$", signs))


def _write_code(found: re.Match[str]) -> str:
    return rf"\texttt{{{found[1]}}}"


def _write_power(found: re.Match[str]) -> str:
    minus = "-" if found[2] == "-" else ""
    return rf"${found[1]} \cdot 10^{{{minus}{found[3]}}}$"


def write_latex(
    table: TableText, name: str, caption: str, bold: Collection[Place] = ()
) -> str:
    """Write a table that stands by itself in a document with booktabs.

    A rule separates the groups of rows whose first label is one, where a row has
    several labels.

    Args:
        table: The table.
        name: Its label is ``tab:NAME``.
        caption: Stands above it; words between backticks are code.
        bold: The cells in bold.
    """
    columns = "l" * table.labels + "r" * (len(table.heads) - table.labels)
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_CODE.sub(_write_code, escape(caption))}}}",
        rf"\label{{tab:{re.sub(r'[^A-Za-z0-9-]', '-', name)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _line([escape(head) for head in table.heads]),
        r"\midrule",
        *_body(table, bold),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _body(table: TableText, bold: Collection[Place]) -> list[str]:
    lines, before = [], table.rows[0][0] if table.rows else ""
    for row, cells in enumerate(table.rows):
        if table.labels > 1 and cells[0] != before:
            lines.append(r"\midrule")
        before = cells[0]
        written = [
            _write_bold(cell) if (row, at) in bold else escape(cell)
            for at, cell in enumerate(cells)
        ]
        lines.append(_line(written))
    return lines


def _write_bold(cell: str) -> str:
    text = escape(cell)
    # Digits of a formula are bold by its own command.
    formula = r"\boldmath " if r"\cdot" in text else ""
    return rf"\textbf{{{formula}{text}}}"


def _line(cells: Sequence[str]) -> str:
    # A bracket at a line's beginning would be an option of the line break before it.
    plain = [f"{{{cell}}}" if cell.startswith("[") else cell for cell in cells]
    return " & ".join(plain) + r" \\"
