"""`Sides`: of which lengths an architecture makes the sides of its images."""

from __future__ import annotations

from dataclasses import dataclass

from medgan.errors import ConfigError

__all__ = ["Sides", "plural"]

_NOUNS = {2: "images", 3: "volumes"}  # by the number of spatial dimensions
_EQUAL = {2: "square images", 3: "cubes"}


def plural(dims: int) -> str:
    """Return what images of so many spatial dimensions are called: ``images``, ``volumes``.

    Args:
        dims: Number of spatial dimensions.
    """
    return _NOUNS.get(dims, f"{dims}-D images")


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Lengths that the sides of an image may have, in pixels, or of a volume, in voxels.

    Attributes:
        lengths: All that there are, shortest first; none for any length.
        multiple_of: What each length has to be divisible by.
        equal: Whether the sides of an image have to be as long as each other.

    Raises:
        ConfigError: If a length is below 1 or no multiple.

    Example:
        >>> sides = Sides.powers_of_two(32, 256)
        >>> sides.describe(2)
        'images of 32, 64, 128 or 256 pixels a side'
        >>> sides.accept((48, 64)), sides.nearest((48, 100))
        (False, (32, 128))
    """

    lengths: tuple[int, ...] = ()
    multiple_of: int = 1
    equal: bool = False

    def __post_init__(self) -> None:
        """Check that there is such a length."""
        if self.multiple_of < 1 or any(length < 1 or length % self.multiple_of for length in self.lengths):
            raise ConfigError(f"Sides must be of lengths of at least 1, and multiples where that is asked; got {self}.")

    @classmethod
    def powers_of_two(cls, shortest: int, longest: int, *, equal: bool = False) -> Sides:
        """Return the sides of each power of two from `shortest` to `longest`.

        Args:
            shortest: A power of two.
            longest: Another, not below it.
            equal: Whether the sides of an image have to be as long as each other.
        """
        lengths = (1 << power for power in range(shortest.bit_length() - 1, longest.bit_length()))
        return cls(lengths=tuple(lengths), equal=equal)

    def accept(self, size: tuple[int, ...]) -> bool:
        """Whether an image may be of such a size.

        Args:
            size: As `DataSpec.size`.
        """
        return self.nearest(size) == size

    def nearest(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Return the size nearest to one that is asked for, side by side; by the longest side where all are equal.

        Args:
            size: As `DataSpec.size`.
        """
        wanted = (max(size),) * len(size) if self.equal else size
        return tuple(self._nearest(length) for length in wanted)

    def describe(self, dims: int) -> str:
        """Return what is made, such as ``square images of 32 or 64 pixels a side``.

        Args:
            dims: Number of spatial dimensions.
        """
        noun = plural(dims)
        if self.equal:
            noun = _EQUAL.get(dims, noun)
        if self.lengths:
            *others, longest = map(str, self.lengths)
            listed = f"{', '.join(others)} or {longest}" if others else longest
            return f"{noun} of {listed} {'voxels' if dims == 3 else 'pixels'} a side"
        return f"{noun} with sides divisible by {self.multiple_of}" if self.multiple_of > 1 else f"{noun} of any size"

    def _nearest(self, length: int) -> int:
        """Return the length nearest to one, the shorter of two."""
        if self.lengths:
            return min(self.lengths, key=lambda known: (abs(known - length), known))
        return max(self.multiple_of, self.multiple_of * round(length / self.multiple_of))
