"""The frame of a report: one HTML file without scripts, fonts or anything else from elsewhere."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

BEGINNING, OURS = '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n', " – clustercl</title>"
STYLE = """
:root { color-scheme: light; --ink: #1f2933; --muted: #66727f; --line: #dfe5eb; --accent: #1f6f8b; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff; line-height: 1.5; font-size: 16px;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 900px; margin: 0 auto; padding: 28px 18px 60px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 42px 0 10px; padding-bottom: 5px; border-bottom: 1px solid var(--line); }
h3 { font-size: .95rem; margin: 18px 0 5px; font-weight: 600; overflow-wrap: anywhere; }
p { margin: 8px 0; max-width: 70ch; }
.sub, .explain, figcaption { color: var(--muted); font-size: .92rem; }
.missing { color: var(--muted); border-left: 3px solid var(--line); padding: 4px 12px; overflow-wrap: anywhere; }
.note { margin: 20px 0; padding: 13px 16px; border: 2px solid #b4421f; border-radius: 6px; background: #fdf1ec;
  color: #7c2a11; font-weight: 600; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 10px; margin: 20px 0; }
.tile { border: 1px solid var(--line); border-radius: 6px; padding: 10px 13px; }
.tile b { display: block; font-size: 1.5rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile span { color: var(--muted); font-size: .85rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .94rem; }
th, td { text-align: right; padding: 5px 14px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 2px; }
thead th { color: var(--muted); font-weight: 600; white-space: normal; vertical-align: bottom; }
tr.total td { font-weight: 700; border-bottom: 0; border-top: 1.5px solid var(--ink); }
figure { margin: 14px 0 22px; break-inside: avoid; }
figure img { max-width: 100%; height: auto; display: block; }
.wide figure img { min-width: 520px; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 4px 16px; }
.grid figure { margin: 4px 0; }
.class { break-inside: avoid; }
.dot { display: inline-block; width: .75em; height: .75em; border-radius: 50%; margin-right: .45em; }
.thumbs { display: grid; grid-template-columns: repeat(auto-fill, minmax(86px, 120px)); gap: 6px; align-items: start; }
.thumbs img { width: 100%; height: auto; display: block; border-radius: 3px; }
details { border: 1px solid var(--line); border-radius: 6px; padding: 8px 14px; }
summary { cursor: pointer; font-weight: 600; }
details td { white-space: normal; overflow-wrap: anywhere; font-family: ui-monospace, Menlo, Consolas, monospace;
  font-size: .82rem; text-align: left; padding: 3px 10px 3px 2px; }
@media (max-width: 560px) { th, td { padding: 5px 7px; } }
@media print { body { font-size: 10.5pt; } main { max-width: none; padding: 0; } .wide figure img { min-width: 0; }
  .thumbs { grid-template-columns: repeat(6, 1fr); } .wide { break-inside: avoid; }
  details .wide { break-inside: auto; } h2, h3 { break-after: avoid; }
  details::details-content { content-visibility: visible; }
  .tile, .note, .dot { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""


def is_page(path: Path) -> bool:
    """Whether a file is a page of this program, or empty."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        head = file.read(2000).decode("utf-8", "replace")
    return not head or (head.startswith(BEGINNING) and OURS in head)


def page(name: str, body: Iterable[str]) -> str:
    """The whole document."""
    content = "\n".join(body)
    return (
        f"{BEGINNING}"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(name)}{OURS}\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{content}\n</main>\n"
        "</body>\n</html>\n"
    )


def paragraph(text: str, kind: str = "") -> str:
    return f"<p{_class(kind)}>{escape(text)}</p>"


def picture(png: bytes, alternative: str, title: str = "") -> str:
    """An <img> that holds its PNG; `alternative` says in words what it shows."""
    hover = f' title="{escape(title, quote=True)}"' if title else ""
    data = base64.b64encode(png).decode("ascii")
    return f'<img src="data:image/png;base64,{data}" alt="{escape(alternative, quote=True)}"{hover}>'


def figure(png: bytes, alternative: str, caption: str = "") -> str:
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{picture(png, alternative)}{below}</figure>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], total: bool = False) -> str:
    """Cells are text. With `total` the last row is set off as the sum or mean of those above."""
    rows = list(rows)
    head = f"<thead><tr>{_cells(header, 'th')}</tr></thead>" if header else ""
    lines = [
        f"<tr{_class('total' if total and number == len(rows) - 1 else '')}>{_cells(row, 'td')}</tr>"
        for number, row in enumerate(rows)
    ]
    return f'<div class="wide"><table>{head}<tbody>{"".join(lines)}</tbody></table></div>'


def tiles(values: Iterable[tuple[str, str]]) -> str:
    """(number, what it is) as a row of boxes."""
    boxes = "".join(f'<div class="tile"><b>{escape(n)}</b><span>{escape(what)}</span></div>' for n, what in values)
    return f'<div class="tiles">{boxes}</div>'


def _cells(values: Sequence[str], tag: str) -> str:
    return "".join(f"<{tag}>{escape(value)}</{tag}>" for value in values)


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
