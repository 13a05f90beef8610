"""New plugins: a whole distribution with an architecture that trains as it stands.

`write_plugin` writes one, either complete in itself or with the losses of an installed architecture to change.
"""

from medgan.scaffold.project import write_plugin

__all__ = ["write_plugin"]
