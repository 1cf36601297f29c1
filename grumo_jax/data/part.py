"""Evenly spaced subsets of a source."""

from collections.abc import Sequence
from dataclasses import dataclass

from grumo_jax.data.sample import Crop, Sample, Source, fingerprint
from grumo_jax.errors import DataError


@dataclass(frozen=True)
class Part:
    """An evenly spaced subset of a source; its name says how many samples it has.

    Attributes:
        source: the whole source.
        number: number of samples in the subset.
        label: name of the whole, to which the number is added.
        missing: ids of the split that were not found.

    Example:
        >>> from grumo_jax.data import ImageFolder
        >>> part = Part(ImageFolder("photos"), 2, "some photos")
        >>> part.ids, part.name
        (('a', 'b'), 'some photos, 2 of 3 images')
    """

    source: Source
    number: int
    label: str
    missing: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Data set and split, and how many of its samples."""
        few = f", {self.number} of {len(self.source)} images"
        return self.label + few * (self.number < len(self.source))

    @property
    def ids(self) -> Sequence[str]:
        """The samples' ids, in order."""
        return tuple(self.source.ids[self._place(i)] for i in range(self.number))

    @property
    def fingerprint(self) -> str:
        """SHA-256 over name, ids and the source's fingerprint."""
        return fingerprint(self.name, self.ids, [self.source.fingerprint])

    @property
    def crop(self) -> Crop | None:
        """The source's."""
        return self.source.crop

    @property
    def has_depth(self) -> bool:
        """The source's."""
        return self.source.has_depth

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> Sample:
        """Read one sample."""
        return self.source[self._place(index)]

    def _place(self, index: int) -> int:
        return index * len(self.source) // self.number


def at_most(source: Source, limit: int | None) -> Source:
    """Limit a source to an evenly spaced subset.

    Args:
        source: the whole source.
        limit: largest number of samples; None for all.

    Returns:
        The source itself for None, else a `Part`.

    Raises:
        DataError: if the limit is not positive.

    Example:
        >>> from pathlib import Path
        >>> import grumo_jax
        >>> from grumo_jax.data import ImageFolder
        >>> photos = ImageFolder(Path(grumo_jax.__file__).parent / "photos")
        >>> len(photos), at_most(photos, 1).ids
        (2, ('coffee',))
    """
    if limit is None:
        return source
    if limit < 1:
        raise DataError(f"the limit is {limit}; expected 1 or more")
    return Part(source, min(limit, len(source)), source.name, tuple(source.missing))
