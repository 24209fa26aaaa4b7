"""A Markdown page as GitHub shows it, as far as layout goes: its parser's dialect, its font sizes and its width."""

from markdown_it import MarkdownIt

STYLE = """
body { margin: 0; }
article { box-sizing: border-box; max-width: 980px; margin: 0 auto; padding: 32px 45px; word-wrap: break-word;
  font: 16px/1.5 -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; color: #1f2328; }
h1, h2, h3 { margin: 24px 0 16px; font-weight: 600; line-height: 1.25; }
h1, h2 { padding-bottom: .3em; border-bottom: 1px solid #d1d9e0; }
h1 { margin-top: 0; font-size: 2em; }
h2 { font-size: 1.5em; }
h3 { font-size: 1.25em; }
p, ol, ul, pre, table { margin: 0 0 16px; }
ol, ul { padding-left: 2em; }
li + li { margin-top: .25em; }
img { max-width: 100%; box-sizing: content-box; }
a { color: #0969da; }
code { padding: .2em .4em; font: 85% ui-monospace, Menlo, monospace; background: #eff1f3; border-radius: 6px; }
pre { padding: 16px; overflow: auto; font-size: 85%; line-height: 1.45; background: #f6f8fa; border-radius: 6px; }
pre code { padding: 0; font-size: 100%; background: none; white-space: pre; }
table { display: block; width: max-content; max-width: 100%; overflow: auto; border-collapse: collapse; }
th, td { padding: 6px 13px; border: 1px solid #d1d9e0; }
@media (max-width: 767px) { article { padding: 15px; } }
"""


def as_on_github(text: str) -> str:
    """A page of HTML; pictures and links stay relative to where it is put."""
    body = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
    head = f"<head>{head}<title>page</title><style>{STYLE}</style></head>"
    return f'<!doctype html><html lang="en">{head}<body><article>{body}</article></body></html>'
