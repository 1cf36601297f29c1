"""Where the networks lie that come with the library."""

from pathlib import Path

from grumo_jax.errors import CheckpointError
from grumo_jax.networks.card import CARD


def shipped_checkpoint(name: str) -> Path:
    """The path of a checkpoint that is shipped with the library.

    An installed package carries "synthetic" alone. A clone of the repository has all of them, in
    `checkpoints/`.

    Args:
        name: of its folder, such as "synthetic".

    Raises:
        CheckpointError: if there is none of that name; the sentence says where the others are.

    Example:
        >>> shipped_checkpoint("synthetic").name
        'synthetic'
    """
    package = Path(__file__).parents[1]
    clone = package.parent / "checkpoints"
    folders = [package / "checkpoints", clone]
    found = [folder / name for folder in folders if (folder / name / CARD).is_file()]
    if not found:
        known = sorted(card.parent.name for folder in folders for card in folder.glob(f"*/{CARD}"))
        sentence = f"no checkpoint {name!r} comes along; there are: {', '.join(known)}"
        if not clone.is_dir():
            sentence += (
                "; the others lie in checkpoints/ of the repository: clone it and give their path"
            )
        raise CheckpointError(sentence)
    return found[0]
