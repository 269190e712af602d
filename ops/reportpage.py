"""A report as a page of HTML: for mail and browser, one column, light or dark as the reader's device is.

Everything that was read is escaped. The page asks for nothing from anywhere: no script, no font, no foreign picture.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from html import escape

from ops import moment
from ops.check import Status
from ops.reportform import MOST_ROWS, Line, Picture, Report, Section, Table

CLASSES = {Status.OK: "ok", Status.WARN: "warn", Status.CRITICAL: "critical", Status.UNKNOWN: "unknown"}
# In two parts: a mail program that does not know one of them drops that one as a whole. Nothing here is needed to read.
STYLE = """
body{margin:0;padding:16px;background:#f4f5f7;color:#1c2127;
 font:16px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:760px;margin:0 auto}
h1{font-size:20px;margin:0 0 2px}
h2{font-size:15px;margin:0 0 8px}
p{margin:0 0 6px}
.card{background:#fff;border:1px solid #dfe2e7;border-radius:10px;padding:14px 16px;margin:12px 0}
.soft{color:#5a6572;font-size:14px}
.badge{border-radius:6px;padding:1px 7px;font-size:12px;font-weight:600;margin-right:6px;white-space:nowrap}
.verdict{font-size:18px;font-weight:600;border-radius:10px;padding:12px 16px;margin:12px 0}
.ok{background:#dff3e4;color:#155d2b}
.warn{background:#f2c94c;color:#3d2b00}
.critical{background:#b3261e;color:#fff}
.unknown{background:#6a4fc3;color:#fff}
.trouble{margin:0;padding:9px 0;border-top:1px solid #e8eaee;font-size:14px}
.first{border-top:0;padding-top:0}
.wide{overflow-x:auto;margin-top:8px}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:left;vertical-align:top;padding:5px 12px 5px 0;border-top:1px solid #e8eaee;white-space:nowrap}
td.last{white-space:normal;min-width:12em;padding-right:0}
thead th{border-top:0}
th,.fact b{font-weight:500;color:#5a6572}
.fact{display:flex;margin:0;padding:5px 0;border-top:1px solid #e8eaee;font-size:14px}
h2+.fact{border-top:0}
.fact b{flex:0 0 30%;padding-right:12px;box-sizing:border-box}
.fact span.said{overflow-wrap:anywhere;min-width:0}
.n{text-align:right;font-variant-numeric:tabular-nums}
th.n.last,td.n.last{padding-right:0;min-width:0;white-space:nowrap}
code{font:13px ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.hint{display:block;margin-top:3px}
img{display:block;width:100%;height:auto;margin:8px 0 2px}
"""
SCREENS = """
:root{color-scheme:light dark}
@media (max-width:480px){body{padding:8px}.card,.verdict{padding:12px}.fact b{flex-basis:38%}
td:first-child{white-space:normal}}
@media (prefers-color-scheme:dark){
body{background:#14171a;color:#e4e7ea}
.card{background:#1d2125;border-color:#31373d}
.soft,th,.fact b{color:#9aa5b1}
th,td,.fact,.trouble{border-color:#31373d}
.ok{background:#16371f;color:#9fe0b1}
}
"""
IMAGE = "data:image/png;base64,"  # the picture is in the page itself; a mail has it beside the page


def page(report: Report) -> str:
    """Write the whole page."""
    title = escape(f"{report.where}: {report.title}")
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{title}</title><style>{STYLE}</style><style>{SCREENS}</style></head><body><main>",
            f"<h1>{escape(report.job.capitalize())} report</h1>",
            f'<p class="soft">{escape(report.where)}<br>{escape(moment.told(report.at))}<br>'
            f"About {escape(report.about)}.</p>",
            *_verdict(report),
            *(_card(section) for section in report.sections),
            "</main></body></html>\n",
        ]
    )


def _verdict(report: Report) -> Iterator[str]:
    yield f'<p class="verdict {CLASSES[report.status]}">{escape(report.verdict.capitalize())}</p>'
    if report.troubles:
        yield '<section class="card">'
        for number, (title, line) in enumerate(report.troubles):
            about = f"<b>{escape(title)}, {escape(line.name)}</b>"
            kind = "trouble" if number else "trouble first"
            yield f'<p class="{kind}">{_badge(line.status)}{about}: {escape(line.text)}{_hint(line)}</p>'
        yield "</section>"


def _hint(line: Line) -> str:
    return f'<code class="hint">{escape(line.hint)}</code>' if line.hint else ""


def _badge(status: Status | None) -> str:
    return f'<span class="badge {CLASSES[status]}">{status}</span> ' if status else ""


def _card(section: Section) -> str:
    parts = [f'<section class="card"><h2>{escape(section.title)}</h2>']
    if section.lines:
        parts += [_line(line) for line in section.lines]
    if section.picture:
        parts.append(_picture(section.picture))
    if section.table:
        parts += _table(section.table)
    return "\n".join([*parts, "</section>"])


def _line(line: Line) -> str:
    badge = _badge(line.status) if line.status is not Status.OK else ""
    return f'<p class="fact"><b>{escape(line.name)}:</b> <span class="said">{badge}{escape(line.text)}</span></p>'


def _picture(picture: Picture) -> str:
    first, last = map(escape, picture.ends)
    data = b64encode(picture.png).decode()
    return (
        f'<img alt="Curve: {first} to {last}; {escape(picture.caption)}" width="680" src="{IMAGE}{data}">'
        f'<table class="soft"><tr><td class="last">{first}</td><td class="n last">{last}</td></tr></table>'
        f'<p class="soft">{escape(picture.caption)}</p>'
    )


def _table(table: Table) -> Iterator[str]:
    yield '<div class="wide"><table>'
    yield f"<thead>{_row(table, table.head, 'th')}</thead>"
    yield from (_row(table, row, "td") for row in table.rows[:MOST_ROWS])
    yield "</table></div>"
    if len(table.rows) > MOST_ROWS:
        yield f'<p class="soft">and {len(table.rows) - MOST_ROWS} more</p>'


def _row(table: Table, cells: tuple[str, ...], kind: str) -> str:
    return f"<tr>{''.join(_cell(table, at, cell, kind) for at, cell in enumerate(cells))}</tr>"


def _cell(table: Table, at: int, cell: str, kind: str) -> str:
    classes = [*(["n"] if at in table.numbers else []), *(["last"] if at == len(table.head) - 1 else [])]
    shown = f' class="{" ".join(classes)}"' if classes else ""
    return f"<{kind}{shown}>{escape(cell)}</{kind}>"
