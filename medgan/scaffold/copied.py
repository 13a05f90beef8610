"""The source of an installed architecture's losses, to be changed in a subclass."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from medgan.core.gan import GAN
from medgan.core.trainer import AdversarialTrainer
from medgan.data.defaults import choose_data
from medgan.errors import ConfigError
from medgan.testing.probe import main_spec

__all__ = ["CopiedRecipe", "copy_recipe"]


@dataclass(frozen=True)
class CopiedRecipe:
    """What a subclass of an architecture is written from.

    Attributes:
        name: Name of the architecture.
        architecture: Name of its class.
        config: Name of its options' class.
        trainer: Name of its trainer's class.
        module: Module of its class.
        hooks: Names of the methods that were copied.
        methods: Their source, each indented as in a class.
        imports: Import statements, in their order, for the methods and the classes.
        names: What the import statements import.
        data: Facts of data that it can do, as Python source.
        phantom: Address of the phantom that it is trained on where no data is named.
        volumes: Whether that has volumes.
        translates: Whether it translates.
    """

    name: str
    architecture: str
    config: str
    trainer: str
    module: str
    hooks: tuple[str, ...]
    methods: tuple[str, ...]
    imports: str
    names: frozenset[str]
    data: str
    phantom: str
    volumes: bool
    translates: bool

    @property
    def what(self) -> str:
        """What was copied, in words."""
        if "train_step" not in self.hooks:
            return "losses"
        return "step" if len(self.hooks) == 1 else "step and losses"


def copy_recipe(architecture: type[GAN]) -> CopiedRecipe:
    """Copy the losses of an architecture.

    Of a trainer with a step of its own, these are the step and the public methods whose names end in ``_terms``, which
    return the terms of a network's loss.

    Args:
        architecture: The class.

    Raises:
        ConfigError: If the source cannot be read, or a class cannot be imported by its name.
    """
    trainer = architecture.Trainer
    own_step = not issubclass(trainer, AdversarialTrainer) or trainer.train_step is not AdversarialTrainer.train_step
    hooks = ("train_step", *_terms_of(trainer)) if own_step else ("discriminator_loss", "generator_loss")
    imports = {
        *_import_of(architecture),
        *_import_of(architecture.Config),
        *_import_of(trainer),
        ("dataclasses", "dataclass", "dataclass"),
        ("typing", "ClassVar", "ClassVar"),
    }
    chosen = choose_data([(architecture, architecture.get_preset())], {})
    methods = []
    for hook in hooks:
        method = getattr(trainer, hook)
        source, needed = _source(method, trainer)
        methods.append(source)
        imports |= needed
    return CopiedRecipe(
        name=architecture.name,
        architecture=architecture.__name__,
        config=architecture.Config.__name__,
        trainer=trainer.__name__,
        module=architecture.__module__,
        hooks=hooks,
        methods=tuple(methods),
        imports=_format(imports),
        names=frozenset(known for *_, known in imports),
        data=_spec_source(architecture),
        phantom=chosen["data"],
        volumes="depth" in chosen,
        translates=architecture.translates,
    )


def _terms_of(trainer: type[Any]) -> list[str]:
    """Return the names of the public methods that return the terms of a loss, in the order of their definition."""
    names = dict.fromkeys(name for base in reversed(trainer.__mro__) for name in vars(base))
    terms = (name for name in names if name.endswith("_terms") and not name.startswith("_"))
    return [name for name in terms if isinstance(getattr(trainer, name), FunctionType)]


Import = tuple[str, str, str]
"""Module, name in it ("" for the module itself), and the name by which it is known."""


def _import_of(found: type[Any]) -> set[Import]:
    """Return the import of a class."""
    if "." in found.__qualname__ or getattr(sys.modules.get(found.__module__), found.__name__, None) is not found:
        raise ConfigError(
            f"{found.__qualname__} cannot be imported from {found.__module__} by its name, so that no plugin can begin "
            "from it. Leave --from out, or name another architecture."
        )
    return {(found.__module__, found.__name__, found.__name__)}


def _source(method: FunctionType, trainer: type[Any]) -> tuple[str, set[Import]]:
    """Return the source of a method and the imports that it needs."""
    try:
        source = textwrap.dedent(inspect.getsource(method))
        module = ast.parse(inspect.getsource(sys.modules[method.__module__]))
    except (OSError, TypeError, KeyError) as error:
        raise ConfigError(f"The source of {trainer.__name__}.{method.__name__} cannot be read: {error}.") from error
    # In the copy, a plain super() would be what it was copied from.
    owner = next(base for base in trainer.__mro__ if method.__name__ in vars(base))
    needed = {name.id for name in ast.walk(ast.parse(source)) if isinstance(name, ast.Name)}
    imports = {item for item in _imports_in(module, method.__module__) if item[2] in needed}
    if "super()" in source:
        source = source.replace("super()", f"super({owner.__name__}, self)")
        imports |= _import_of(owner)
    return textwrap.indent(source.rstrip(), " " * 4), imports


def _imports_in(module: ast.Module, name: str) -> Iterable[Import]:
    """Yield how what a module knows can be imported: as it does itself, or from it."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "", alias.asname or alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((str(node.module), alias.name, alias.asname or alias.name) for alias in node.names)
    for statement in module.body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            yield name, statement.name, statement.name
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            yield from ((name, target.id, target.id) for target in targets if isinstance(target, ast.Name))


def _format(imports: Iterable[Import]) -> str:
    """Return import statements in the order of isort: the standard library, a blank line, the others."""
    sections: list[list[str]] = [[], []]
    whole = sorted((module, known) for module, name, known in imports if not name)
    for module, known in whole:
        line = f"import {module}" if module == known else f"import {module} as {known}"
        sections[_is_third_party(module)].append(line)
    for module in sorted({module for module, name, _ in imports if name}, key=str.lower):
        names = sorted(((name, known) for other, name, known in imports if other == module and name), key=_rank)
        parts = [name if name == known else f"{name} as {known}" for name, known in names]
        sections[_is_third_party(module)].append(f"from {module} import {', '.join(parts)}")
    return "\n\n".join("\n".join(section) for section in sections if section)


def _is_third_party(module: str) -> bool:
    return module.partition(".")[0] not in sys.stdlib_module_names


def _rank(item: Sequence[str]) -> tuple[int, str]:
    """Constants first, then classes, then functions."""
    name = item[0]
    return (0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2), name


def _spec_source(architecture: type[GAN]) -> str:
    """Return facts of data that an architecture accepts, as Python source."""
    data = main_spec(architecture)
    labels = "None"
    if data.labels is not None:
        names = ", ".join(f'"{name}"' for name in data.labels.names)
        labels = f'LabelSpec(({names}), "{data.labels.kind}")'
    sources = f", source_channels={data.source_channels}" if data.source_channels else ""
    sources += "" if data.paired else ", paired=False"
    return f"DataSpec({data.channels}, {data.size}, {labels}{sources})"
