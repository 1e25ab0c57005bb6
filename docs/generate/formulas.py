"""LaTeX between dollars, as MathML."""

from __future__ import annotations

import re
from html import unescape

from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def with_mathml(html: str) -> str:
    """``html`` with the formulas that arithmatex found drawn by the browser."""

    def drawn(match: re.Match[str]) -> str:
        display = "block" if match[1] == "div" else "inline"
        latex = unescape(match[2]).strip()
        formula = convert(latex, display=display)
        if "<mi>\\" in formula:
            raise ValueError(f"not a command of latex2mathml, in {latex!r}")
        return formula

    return _FORMULA.sub(drawn, html)
