"""Text that comes from outside, such as names of files."""

import unicodedata

# Joiners shape letters and emoji, and hide nothing.
_HARMLESS = ("\u200c", "\u200d")
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def printable(text: str) -> str:
    r"""Escape what steers terminals or hides text: controls, line ends, directions, broken bytes.

    A file's name may hold any byte but "/" and 0, and whoever made it may not be a friend.

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
