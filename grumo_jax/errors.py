"""Errors and warnings; messages say what was given, what is expected and what to do."""

import unicodedata

# Joiners shape letters and emoji, and hide nothing.
_HARMLESS = ("\u200c", "\u200d")
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


class _Printable(Exception):
    """An exception whose message is safe to print, whatever the file names in it hold."""

    def __str__(self) -> str:
        return printable(super().__str__())


class GrumoError(_Printable, ValueError):
    """Bad input. The command line prints the message and exits with status 2.

    Example:
        >>> import grumo_jax
        >>> try:
        ...     grumo_jax.named_estimator("magic", None)
        ... except grumo_jax.GrumoError as error:
        ...     print(error)
        there is no estimator 'magic'; choose one of grad, ...
    """


class GrumoWarning(_Printable, UserWarning):
    """A probable mistake that does not stop the computation; says what was found and what to do.

    Example:
        >>> import warnings
        >>> warnings.simplefilter("error", GrumoWarning)  # to stop where something looks wrong
    """


class LayerError(GrumoError):
    """A layer that does not exist, or that cannot be captured, differentiated or edited."""


class CheckpointError(GrumoError):
    """A checkpoint that cannot be read, written or trusted."""


class WeightsError(GrumoError):
    """PyTorch weights that cannot be read or do not describe a known network."""


class ImageError(GrumoError):
    """An image file that cannot be read or an image array of the wrong form."""


class DataError(GrumoError):
    """A data set, or a file of one, that is missing, damaged or not laid out as expected."""


class ResultsError(GrumoError):
    """A results file that cannot be read, or that does not belong to this evaluation."""


def printable(text: str) -> str:
    r"""Escape what controls terminals or hides text: controls, line ends, directions, broken bytes.

    A file name may hold any byte but "/" and 0, and may be hostile.

    >>> print(printable("a\x1b[2Jb\nc\u202egnp.exe \udcff café"))
    a\x1b[2Jb\nc\u202egnp.exe \udcff café
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(c) if _hides(c) else c for c in text)


def _hides(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN and character not in _HARMLESS


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
