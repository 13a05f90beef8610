"""The files of a new plugin, from templates."""

from __future__ import annotations

import builtins
import re
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import metadata, requires
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medgan import core, registry
from medgan.core.version import API_VERSION
from medgan.data.config import PHANTOM
from medgan.errors import ConfigError

__all__ = ["write_plugin"]

# What a plugin consists of, and from which template; {module} is the name of its package.
_FILES = {
    "pyproject.toml": "pyproject.toml.j2",
    "README.md": "README.md.j2",
    "LICENSE": "LICENSE.j2",
    ".gitignore": "gitignore.j2",
    "tox.ini": "tox.ini.j2",
    ".github/workflows/tests.yml": "workflow.yml.j2",
    "{module}/__init__.py": "init.py.j2",
    "{module}/py.typed": None,
    "{module}/gan.py": "gan.py.j2",
    "{module}/networks.py": "networks.py.j2",
    "tests/test_{module}.py": "test.py.j2",
}
_FILES_OF_COPY = {name: template for name, template in _FILES.items() if name != "{module}/networks.py"} | {
    "{module}/gan.py": "copied_gan.py.j2",
    "tests/test_{module}.py": "copied_test.py.j2",
}
_SUFFIXES = ("", "Config", "Trainer", "Generator", "Discriminator")
# Classes that the templates use by these names.
_USED = {*core.__all__, *vars(builtins), "ClassVar", "ConfigError", "F", "FiLMNorm", "Tensor"}


@dataclass(frozen=True)
class _Names:
    """What a new plugin and its parts are called.

    Attributes:
        name: Of the architecture, such as ``my-gan``.
        distribution: ``medgan-my-gan``.
        module: ``medgan_my_gan``.
        architecture: Of the class, ``MyGAN``.
    """

    name: str
    distribution: str
    module: str
    architecture: str


def write_plugin(name: str, out: Path | None = None, *, copy_of: str | None = None) -> Path:
    """Write a distribution with a new architecture: code, tests with the compliance kit, README, tox and a workflow.

    It can be installed and trained as it stands.

    Args:
        name: Name of the architecture, kebab-case, such as ``my-gan``.
        out: Folder to create; None for ``medgan-NAME`` in the current one.
        copy_of: An installed architecture; the new one is a subclass with a copy of its losses to change. None for one
            with networks and losses of its own.

    Returns:
        The folder.

    Raises:
        ConfigError: If the name is not usable or taken, the folder holds something already or cannot be written, or
            the losses of the installed architecture cannot be copied.
        UnknownArchitectureError: If there is no such installed architecture.
        PluginError: If the installed architecture is broken.
    """
    names = _check_name(name)
    values: dict[str, Any] = {
        **vars(names),
        "api_version": API_VERSION,
        "python": metadata("medgan")["Requires-Python"],
        "dependencies": [f"medgan>={'.'.join(metadata('medgan')['Version'].split('.')[:2])}", _torch()],
        "copied": None,
        "phantom": PHANTOM,
        "sampling": "-n 64",
    }
    files = _FILES
    if copy_of is not None:
        from medgan.scaffold.copied import copy_recipe

        files = _FILES_OF_COPY
        values["copied"] = copied = copy_recipe(registry.get(copy_of))
        values["phantom"] = copied.phantom
        if copied.translates:
            values["sampling"] = f'--source "{copied.phantom}?n=8&seed=1"'
        elif copied.volumes:
            values["sampling"] = "-n 8 --format nifti"
        plugin = registry.plugins()[copy_of]
        if plugin.distribution not in ("", "medgan"):
            values["dependencies"] += [f"{plugin.distribution}>={plugin.version}"]
        _check_classes(names, copied.names)
    texts = {target.format(module=names.module): _render(template, values) for target, template in files.items()}
    return _write(Path(names.distribution) if out is None else out, texts)


def _check_name(name: str) -> _Names:
    """Return what follows from a name, or raise if it cannot be used or is taken."""
    if not registry.NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no name for an architecture. Use lower-case letters and digits, beginning with a letter, and "
            "'-' between words, such as my-gan."
        )
    words = [re.sub("gan$", "GAN", word) for word in name.split("-")]
    names = _Names(
        name=name,
        distribution=f"medgan-{name}",
        module=f"medgan_{name.replace('-', '_')}",
        architecture="".join(word[:1].upper() + word[1:] for word in words),
    )
    if name in registry.names():
        plugin = registry.plugins()[name]
        raise ConfigError(f"{name!r} is taken: {plugin.origin} declares {plugin.value}. Choose another name.")
    if find_spec(names.module) is not None:
        raise ConfigError(f"{name!r} is taken: there is a module {names.module} already. Choose another name.")
    _check_classes(names, _USED)
    return names


def _check_classes(names: _Names, used: Collection[str]) -> None:
    """Raise if a class of the plugin would have the name of something else that it uses."""
    for suffix in _SUFFIXES:
        if names.architecture + suffix in used:
            raise ConfigError(
                f"{names.name!r} would give a class {names.architecture + suffix}, but plugins use another one of that "
                f"name. Choose another name, such as my-{names.name}."
            )


def _torch() -> str:
    """Return medgan's own requirement of torch."""
    return next(line for line in requires("medgan") or [] if re.match(r"torch\b(?!-)", line))


def _render(template: str | None, values: dict[str, Any]) -> str:
    """Return the text of a file; "" without a template."""
    if template is None:
        return ""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # What is written is Python, TOML and Markdown, in which nothing has to be escaped.
    environment = Environment(
        loader=PackageLoader("medgan.scaffold"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(values)


def _write(out: Path, texts: dict[str, str]) -> Path:
    """Write files into a folder, which gets its name only when all of them are there."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists and is not an empty folder. Name another --out.")
    aside = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        aside.chmod(0o755)
        for name, text in texts.items():
            path = aside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if out.exists():
            out.rmdir()
        aside.replace(out)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror}. Name another --out.") from error
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
    return out
