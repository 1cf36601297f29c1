"""What a user's mistake raises: messages say what was given, what is expected, what to do."""

from grumo_jax.text import printable


class _Printable(Exception):
    """Its message may name files, whose names may hold anything, and is safe to print."""

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
    """What is probably wrong and yet can be computed; each says what was found and what to do."""


def one_sentence(error: GrumoError | OSError) -> str:
    """What to tell a user of it; of a full disk and the like, what the system says.

    >>> one_sentence(FileNotFoundError(2, "No such file or directory", "a.png"))
    'a.png: No such file or directory'
    """
    if isinstance(error, OSError):
        return printable(f"{error.filename or 'output'}: {error.strerror or error}")
    return str(error)


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
