"""What mkdocs asks while it builds: the pages made from the code, the results and the examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from api_page import api_page
from command_page import command_page
from example_pages import example_page
from formulas import with_mathml
from mkdocs.structure.files import File
from settings_pages import settings_page, with_method_facts

HOUSE = Path(__file__).parents[2]


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages, and the pictures that results show."""
    pages = {
        "reference/settings.md": settings_page(),
        "reference/cli.md": command_page(),
        "reference/api.md": api_page(),
    }
    for result in sorted((HOUSE / "benchmarks" / "results").glob("*.md")):
        pages[f"results/{result.name}"] = result.read_text()
    for example in sorted((HOUSE / "examples").glob("*.py")):
        pages[f"examples/{example.stem}.md"] = example_page(example)
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    for picture in sorted((HOUSE / "benchmarks" / "results").glob("*.png")):
        files.append(File.generated(config, f"results/{picture.name}", abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Put the method's paper and settings where a page asks for them."""
    return with_method_facts(markdown)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Turn LaTeX into MathML, which browsers draw without a script."""
    return with_mathml(html)
