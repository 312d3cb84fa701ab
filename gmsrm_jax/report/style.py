"""The look of the pages: one style sheet, and the frame around a page's content."""

import html

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 72rem; background: #fff;
  color: #1c2124; font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { margin: 0 0 1rem; font-size: 1.7rem; line-height: 1.2; }
h2 { margin: 2.5rem 0 .75rem; padding-bottom: .3rem; border-bottom: 1px solid #d5dadd;
  font-size: 1.25rem; }
h3 { margin: 1.5rem 0 .5rem; font-size: 1rem; }
p { max-width: 46rem; margin: .5rem 0; overflow-wrap: anywhere; }
.note { color: #50575c; font-size: .9rem; }
.wide { overflow-x: auto; margin: .5rem 0 1.25rem; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
caption { padding: .25rem 0; text-align: left; font-weight: 600; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #e3e6e8; }
th { font-weight: 500; }
thead th { border-bottom: 1px solid #50575c; color: #50575c; }
tbody th { position: sticky; left: 0; background: #fff; text-align: left; }
.scores { min-width: 44rem; }
.scores thead th:first-child { text-align: left; }
.layout { margin-top: 1rem; font-size: .88rem; }
.layout caption { max-width: min(46rem, calc(100vw - 2rem)); font-weight: 400; }
.layout .priors { text-align: left; }
.layout th, .layout td { padding: .22rem .45rem; }
.layout thead th { vertical-align: bottom; }
.layout thead tr:first-child th { text-align: left; }
.layout thead th[colspan] { border-bottom-width: 0; border-left: 1px solid #e3e6e8;
  color: #1c2124; }
.layout .group th { padding-top: .9rem; font-weight: 700; }
.layout .group td { padding-top: .9rem; }
.layout .published th, .layout .published td { color: #50575c; font-style: italic; }
.layout .published + tr:not(.published) > * { border-top: 2px solid #9aa1a6; }
.layout sup { margin-right: -.5em; line-height: 0; }
.facts th { color: #50575c; white-space: normal; }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
td b { font-weight: 700; }
.panels th, .panels td { padding: .15rem; border: 0; text-align: center; font-size: .85rem; }
.panels tbody th { min-width: clamp(5.5rem, 12vw, 9rem); padding-right: .5rem; text-align: left;
  line-height: 1.3; white-space: normal; overflow-wrap: anywhere; }
.panels tbody th span { display: block; color: #50575c; font-weight: 400; }
.panels thead th { max-width: 8rem; white-space: normal; vertical-align: bottom; }
.panels thead th:first-child { text-align: left; }
.panels img { display: block; width: clamp(5.5rem, 11vw, 8.2rem); height: auto; }
.pixels { image-rendering: pixelated; }
figure { margin: 0 0 1rem; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { margin-top: .3rem; color: #50575c; font-size: .9rem; }
.beside { display: grid; grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); gap: .5rem;
  max-width: calc(var(--columns) * 13rem); margin: .3rem 0 1.4rem; }
.beside figure { margin: 0; }
.beside img { width: 100%; }
.beside figcaption { margin-top: .15rem; font-size: .85rem; line-height: 1.25;
  overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr));
  gap: .5rem 1.5rem; }
.charts figure { margin: 0; }
.charts svg { display: block; width: 100%; height: auto; }
.pair { grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
pre { overflow-x: auto; padding: .8rem 1rem; background: #f4f6f7; border-radius: 4px;
  font: .85rem/1.45 ui-monospace, SFMono-Regular, Menlo, monospace; }
summary { cursor: pointer; color: #1f5f8b; }
dt { font-weight: 600; }
dd { margin: 0 0 .6rem; max-width: 46rem; }
@media (max-width: 40rem) {
  .beside { grid-template-columns: repeat(3, minmax(0, 1fr)); }
  .layout { font-size: .84rem; }
  .layout th, .layout td { padding: .22rem .3rem; }
  .layout tbody th { min-width: 4.8rem; max-width: 7.5rem; white-space: normal;
    line-height: 1.25; }
  .layout .priors { display: none; }
}
"""


def page(title: str, body: str) -> str:
    """A whole HTML page that needs nothing else: UTF-8, fit for narrow screens.

    Args:
        title: plain text.
        body: HTML.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        f"{body}\n</body></html>\n"
    )
