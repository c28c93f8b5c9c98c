"""What the page does in a browser: tables sorted by a click or a key.

Without it every table stays as it is. The policy of the page names its digest, so that
a browser runs it and nothing else, whatever text of others is on the page.
"""

import base64
import hashlib

# The app bundle carries Python files, so the script is text in one of them.
SORTING = """
const ABSENT = "–";
const UNITS = { "%": 1, B: 1, kB: 1e3, MB: 1e6, GB: 1e9 };
const NUMBER =
  /^([-−+]?\\d+(?:\\.\\d+)?(?:e[-+]?\\d+)?)(?: ?(%|B|kB|MB|GB))?(?: ?[±(].*)?$/;
const words = new Intl.Collator("en", { numeric: true });

function read(text) {
  const found = NUMBER.exec(text);
  return found ? Number(found[1].replace("−", "-")) * (UNITS[found[2]] ?? 1) : null;
}

function order(rows, place, sign) {
  const entries = rows.map((row) => {
    const text = row.cells[place].textContent.trim();
    return { row, text, number: read(text), absent: text === ABSENT || text === "" };
  });
  const numbers = entries.every((each) => each.absent || each.number !== null);
  const compare = (one, other) =>
    numbers ? one.number - other.number : words.compare(one.text, other.text);
  entries.sort((one, other) =>
    one.absent || other.absent
      ? one.absent - other.absent
      : sign * compare(one, other));
  return entries.map((each) => each.row);
}

function makeSortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: null }[head.ariaSort];
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      if (next === null) {
        body.append(...original);
        return;
      }
      head.setAttribute("aria-sort", next ?? "ascending");
      body.append(...order([...body.rows], place, next ? -1 : 1));
    });
  });
}

for (const table of document.querySelectorAll("table")) {
  if (table.tHead && table.tBodies.length === 1 && table.tBodies[0].rows.length > 1) {
    makeSortable(table);
  }
}
"""


def write_policy(style: str) -> str:
    """Return the policy of a page: this script, one style, embedded pictures.

    Args:
        style: The text of the page's style.
    """
    return (
        f"default-src 'none'; img-src data:; style-src '{digest(style)}'; "
        f"script-src '{digest(SORTING)}'; base-uri 'none'; form-action 'none'"
    )


def digest(text: str) -> str:
    """Return a digest as a Content-Security-Policy names what it admits."""
    found = hashlib.sha256(text.encode()).digest()
    return "sha256-" + base64.b64encode(found).decode()
