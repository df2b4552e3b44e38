"""Sphinx: Markdown pages, the theme furo, equations as MathML. Nothing comes from elsewhere."""

import re

from latex2mathml.converter import convert

import denser

project = "denser"
author = "the developers of denser"
html_show_copyright = False
html_use_index = False
version = release = denser.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 4
exclude_patterns = ["conf.py"]
highlight_language = "text"
smartquotes_action = "D"
html_theme = "furo"
html_title = f"denser {version}"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_favicon = "favicon.svg"
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#3546a5", "color-brand-content": "#3546a5"},
    "dark_css_variables": {"color-brand-primary": "#9fb0ff", "color-brand-content": "#9fb0ff"},
    "footer_icons": [],
}
copybutton_exclude = ".linenos, .gp, .go"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings state the types
python_use_unqualified_type_names = True


def _inline(self, node) -> None:
    self.body.append(convert(node.astext()))
    raise_skip()


def _block(self, node) -> None:
    self.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise_skip()


def raise_skip() -> None:
    """Tell docutils that the node has been written."""
    from docutils.nodes import SkipNode

    raise SkipNode


def plain(app, what, name, obj, options, lines: list[str]) -> None:
    """Docstrings are plain text: bars and stars in them are no markup."""
    for i, line in enumerate(lines):
        lines[i] = re.sub(r"(?<!`)([|*])(?!`)", r"\\\1", line) if "``" not in line else line


def setup(app) -> None:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("autodoc-process-docstring", plain, priority=100)
