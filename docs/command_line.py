"""Commands in the reference, by sphinx-click: what click knows of a command becomes part of a page.

sphinx-click makes a section with the command's name for a title, and takes a command as it is when it is imported. Here
a page has its own title, and `medgan fit`, which has the options of the architecture that is asked for, those of ACGAN.
"""

from __future__ import annotations

from typing import ClassVar

import click
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx_click.ext import ClickDirective

from medgan.cli.fit import fit
from medgan.core.config import GANConfig
from medgan.data.config import DataConfig
from medgan.runs import RunConfig

__all__ = ["fit_acgan", "fit_images", "fit_run", "fit_shared", "setup"]


class CommandDirective(ClickDirective):
    """``.. command:: module:command``: as ``.. click::``, without a section around it.

    With ``:part: usage`` there are no options, with ``:part: options`` only these.
    """

    option_spec: ClassVar = {
        **ClickDirective.option_spec,
        "part": lambda text: directives.choice(text, ("usage", "options")),
    }

    def run(self) -> list[nodes.Node]:
        """Return what stands in the section, and the sections of a group's commands."""
        (section,) = super().run()
        content = section.children[1:]
        titles = [node.astext() if isinstance(node, nodes.rubric) else "" for node in content]
        heading = titles.index("Options") if "Options" in titles else len(content)
        if self.options.get("part") == "usage":
            return content[:heading]
        return content[heading + 1 :] if self.options.get("part") == "options" else content


def _parts_of_fit() -> dict[str, click.Command]:
    """Return the options of `medgan fit --arch acgan`, by what they are of."""
    fit.make_context("fit", ["--arch", "acgan"], resilient_parsing=True)  # looks for the options
    images = {item.name for item in DataConfig.options()}
    shared = {item.name for item in GANConfig.options()}
    known = images | {item.name for item in RunConfig.options()} | {"config", "resume", "transforms", "dry_run"}
    parts: dict[str, list[click.Parameter]] = {"images": [], "run": [], "shared": [], "acgan": []}
    for option in fit.params:
        name = str(option.name)
        part = "images" if name in images or name == "transforms" else "run" if name in known else "acgan"
        parts["shared" if name in shared else part].append(option)
    return {part: click.Command("fit", params=options) for part, options in parts.items()}


fit_images, fit_run, fit_shared, fit_acgan = _parts_of_fit().values()


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("command", CommandDirective)
    return {"parallel_read_safe": True}
