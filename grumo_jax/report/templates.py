"""HTML and LaTeX templates; inserted values are escaped."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from grumo_jax.errors import printable

FOLDER = Path(__file__).parent
_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "†": r"\textsuperscript{\textdagger}",
    "‡": r"\textsuperscript{\textdaggerdbl}",
    "×": r"$\times$",
    "−": r"$-$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "δ": r"$\delta$",
    "σ": r"$\sigma$",
    "→": r"$\rightarrow$",
    "–": "--",
    "…": r"\dots{}",
}


def render_html(name: str, **values: Any) -> str:
    """Fill in an HTML template; values are escaped."""
    environment = _environment(autoescape=True)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment.get_template(name).render(values)


def render_latex(name: str, **values: Any) -> str:
    """Fill in a LaTeX template, with <<, <% and <# instead of braces; values are escaped."""
    environment = _environment(
        finalize=lambda value: escape_latex(str(value)),
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
    )
    return environment.get_template(name).render(values)


def escape_latex(text: str) -> str:
    r"""Escape text for LaTeX.

    >>> print(escape_latex("50 % of a_b & c"))
    50 \% of a\_b \& c
    """
    return "".join(_LATEX.get(c, c) for c in printable(" ".join(text.split())))


def _environment(**options: Any) -> Environment:
    return Environment(
        loader=FileSystemLoader(FOLDER),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )
