"""A Sphinx extension: formulas as MathML, which browsers show by themselves, without JavaScript or a network.

docutils converts the LaTeX; Sphinx would otherwise load MathJax from a network. A formula that it cannot convert is a
warning, so that a build with `-W` fails.
"""

from docutils.nodes import Element
from docutils.writers.html5_polyglot import HTMLTranslator
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata
from sphinx.writers.html5 import HTML5Translator


def visit(translator: HTML5Translator, node: Element) -> None:
    """Write a formula in a line."""
    translator.math_output, translator.math_options = "mathml", ""
    HTMLTranslator.visit_math(translator, node)


def visit_block(translator: HTML5Translator, node: Element) -> None:
    """Write a formula on its own; where the window is narrower than it, it scrolls, and not the page."""
    translator.body.append('<div style="margin: 0.8em 0; overflow-x: auto; overflow-y: hidden">\n')
    visit(translator, node)


def depart_block(translator: HTML5Translator, node: Element) -> None:
    """Close what `visit_block` opened."""
    translator.body.append("</div>\n")


def setup(app: Sphinx) -> ExtensionMetadata:
    """Make it the way in which formulas are written; see Sphinx's `html_math_renderer`."""
    app.add_html_math_renderer("mathml", (visit, None), (visit_block, depart_block))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
