"""Sphinx configuration: `sphinx-build -n -W docs docs/_build` builds without a network."""

import os
import shutil
import sys
from pathlib import Path

from docutils.nodes import Element, TextElement
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import medgan

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # modules beside this one, which Sphinx is to know by their names

project = "medgan"
author = "The medgan maintainers"
copyright = "2026, the medgan maintainers"
version = release = medgan.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "command_line",
    "option_tables",
    "mathml",
]
if os.environ.get("MEDGAN_DOCS_LINKS"):  # wants a network, and warns where there is none
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"medgan {release}"
html_static_path = ["_static"]
html_css_files = ["options.css"]
html_math_renderer = "mathml"

# Docstrings quote names in single backticks, as help() shows them well.
default_role = "code"

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
# Dataclass fields are described under "Attributes:"; as :ivar: they do not clash with autodoc's own entries.
napoleon_use_ivar = True

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_dmath_allow_digits = False  # between $5 and $6 there is no formula
myst_heading_anchors = 3

# Copies of the examples are run; what they write stays beside them. `-D plot_gallery=0` shows them without running.
RUN_FROM = HERE / "_build" / "examples"
shutil.rmtree(RUN_FROM, ignore_errors=True)
shutil.copytree(HERE.parent / "examples", RUN_FROM, ignore=shutil.ignore_patterns("__pycache__", "*.png", "*-model"))
sphinx_gallery_conf = {
    "examples_dirs": str(RUN_FROM),
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "image_scrapers": ("gallery_pictures.collect_pictures",),
    "reset_modules": (),
    "within_subsection_order": "gallery_pictures.order",
    "min_reported_time": 0,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "plot_gallery": "True",
}

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"

# Annotations name things that live in other projects. Linking to those needs their inventories from the network at
# build time, so they stay plain text unless MEDGAN_DOCS_LINKS is set. Names of medgan are never listed here.
nitpick_ignore_regex = [
    # By their full names,
    (
        r"py:.*",
        r"(abc|accelerate|click|collections|fractions|numpy|np|pandas|pd|pathlib|PIL|pydicom|socket|torch|typing)\..*",
    ),
    # or as our modules import them.
    (
        r"py:.*",
        r"(Accelerator|ASGIApp|Fraction|NDArray|Path|Tensor|nn\.Module|EntryPoint|Image\.Image|MatplotlibFigure)",
    ),
    # The standard library.
    (r"py:.*", r"(ABC|Any|Callable|ClassVar|Generic|Iterable|Iterator|Literal|Mapping|Protocol|Self|Sequence)"),
    # Sphinx cuts a field's `tuple[float, float] | None` at the comma.
    (r"py:class", r"(tuple\[float|dict\[str)"),
    # Type variables and private bases have no page of their own.
    (r"py:.*", r"(.*\.)?([A-Z]|Summary|Value|_[A-Z]\w+)"),
]


def find_short_name(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: TextElement) -> Element | None:
    """Link `GAN` where a module imports it for type checkers only, so that its full name is not to be had."""
    if node.get("refdomain") != "py" or "." in node["reftarget"]:
        return None
    node["refspecific"] = True  # look for any name that ends so
    return env.domains["py"].resolve_xref(
        env, node["refdoc"], app.builder, node["reftype"], node["reftarget"], node, content
    )


def setup(app: Sphinx) -> None:
    app.connect("missing-reference", find_short_name)
