"""Sphinx's settings for the site that ``./run_all.sh --site`` builds; finelib/views/site.py lays the pages ready."""

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml

project = "FINE companion"
author = "The FINE companion authors"
project_copyright = "The FINE companion authors"
language = "en"
root_doc = "index"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["extra", "figures"]
suppress_warnings = ["mystnb.unknown_mime_type"]

# notebooks: executed before; no request for the scripts of widgets
nb_execution_mode = "off"
nb_output_stderr = "remove"
nb_merge_streams = True
nb_render_markdown_format = "gfm"
nb_ipywidgets_js = {}
nb_code_prompt_show = "Show the set-up"
nb_code_prompt_hide = "Hide the set-up"
myst_enable_extensions = ["dollarmath", "amsmath", "html_image"]
myst_heading_anchors = 3

# the API
autosummary_generate = True
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_inherit_docstrings = False  # forward's is PyTorch's own
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
add_module_names = False

html_theme = "pydata_sphinx_theme"
html_title = "FINE companion"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/icon.svg"
html_extra_path = ["../extra"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"index": [], "run": [], "claims": [], "RESULTS": []}
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {"text": "FINE companion", "image_light": "_static/icon.svg", "image_dark": "_static/icon.svg"},
    "navigation_with_keys": False,
    "header_links_before_dropdown": 6,
    "pygments_dark_style": "github-dark-high-contrast",
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
# a page that is opened as a file cannot read the others for the lines that search shows of them
_AS_A_FILE = "if (location.protocol === 'file:') DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;"
html_js_files = [(None, {"body": _AS_A_FILE})]


# MathJax would come from another server; browsers draw MathML themselves
html_math_renderer = "mathml"
UNKNOWN = {  # what docutils does not know, or sets below and above -> what it sets as TeX does
    r"\\bar\b": r"\\overline",
    r"(\\(?:hat|overline)(?:\{[^}]*\}|\\\w+))(?=[_^])": r"\1{}",
    r"\\tag\{([^}]*)\}": r"\\qquad(\1)",
    r"\\([bB]igg?)(?=[\[(])": r"\\\1l",
    r"\\([bB]igg?)(?=[\])])": r"\\\1r",
}


def _mathml(translator, node, as_block: bool) -> None:
    tex = node.astext()
    for unknown, known in UNKNOWN.items():
        tex = re.sub(unknown, known, tex)
    try:
        formula = str(tex2mathml(tex, as_block=as_block))
    except MathError as error:
        raise ValueError(f"formula {tex!r}: {error}") from error
    # a wide one scrolls, so it can be reached by keyboard
    translator.body.append(f'<div class="formula" tabindex="0">{formula}</div>' if as_block else formula)
    raise nodes.SkipNode


def setup(app) -> dict:
    """Called by Sphinx."""
    inline, block = (lambda self, node: _mathml(self, node, False)), (lambda self, node: _mathml(self, node, True))
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True}
