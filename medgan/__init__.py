"""medgan: generative adversarial networks for medical images.

The package is built in floors, and each one imports only from those below it. ``import medgan``
itself imports none of them, so it is fast and works before torch has been loaded; take what you
need from its module:

>>> from medgan.core.spec import DataSpec, LabelSpec
>>> print(DataSpec(channels=1, size=(64, 64), labels=LabelSpec(("NORMAL", "PNEUMONIA"))))
1×64×64, categorical NORMAL, PNEUMONIA
"""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("medgan")
