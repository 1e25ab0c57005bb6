"""Settings as tables, from the schema; the paper and the settings of a method."""

from __future__ import annotations

import json
import re
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from ddip_ray.config.methods import METHODS
from ddip_ray.config.settings import RunConfig

_INTRODUCTION = """# Settings

Every key of a `--config` file, and of the keywords of `ddip_ray.solve` and `ddip_ray.RunConfig`.
A section is a mapping:

```yaml
method: d3ip
sampler: {num_steps: 30}
adaptation: {policy: fixed, lora_rank: 8}
```

A key that does not exist is an error. Each method reads the sections named on
[its page](../methods/index.md), and may have defaults of its own, which its page shows. `preset: paper`
takes the settings of the method's paper instead. The whole configuration is saved with the result.
"""
_HEADER = "| key | default | meaning |\n|---|---|---|"
_FACT = re.compile(r"<!-- (paper|settings) of ([a-z0-9-]+) -->")
_RUN_KEYS = ("preset", "prior", "seed", "micro_batch")  # the same for every method


def settings_page() -> str:
    """The page ``reference/settings.md``."""
    fields = RunConfig.model_fields
    plain = [name for name in fields if _section(name) is None]
    parts = [_INTRODUCTION, "## Top level\n", _HEADER, *(_row(RunConfig, name) for name in plain), ""]
    for name in fields:
        section = _section(name)
        if section is not None:
            readers = ", ".join(f"[`{key}`](../methods/{key}.md)" for key in _readers(name))
            parts += [f"## {name}\n", f"{_sentence(section.__doc__)} Read by {readers}.\n"]
            parts += [_HEADER, *_rows(section), ""]
    return "\n".join(parts)


def with_method_facts(markdown: str) -> str:
    """``markdown`` with ``<!-- paper of dds -->`` and ``<!-- settings of dds -->`` replaced by them."""

    def fact(match: re.Match[str]) -> str:
        return method_paper(match[2]) if match[1] == "paper" else method_settings(match[2])

    return _FACT.sub(fact, markdown)


def method_paper(method: str) -> str:
    """What the method is called on the command line, and its paper with links."""
    paper = re.sub(r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", METHODS[method].paper)
    paper = re.sub(r"doi:(\S+)", r"[doi:\1](https://doi.org/\1)", paper)
    return f"`--method {method}`" + (f" · {paper}" if paper else "")


def method_settings(method: str) -> str:
    """Tables of the sections that ``method`` reads, with its defaults and the paper's."""
    row, default = METHODS[method], RunConfig.for_method(method)  # type: ignore[arg-type]
    paper = RunConfig.for_method(method, preset="paper")  # type: ignore[arg-type]
    names = [*row.sections, *(("noise",) if method in _readers("noise") else ())]
    if not names:
        return "None of its own."
    parts = []
    for name in names:
        section, ours, theirs = type(getattr(default, name)), getattr(default, name), getattr(paper, name)
        parts.append(f"**{name}**\n\n| key | default | paper | meaning |\n|---|---|---|---|")
        for key, field in section.model_fields.items():
            values = _code(getattr(ours, key)), _code(getattr(theirs, key))
            shown = values[1] if values[0] != values[1] else ""
            parts.append(f"| `{key}` | {values[0]} | {shown} | {_cell(field.description)} |")
        parts.append("")
    more = ", ".join(f"`{key}`" for key in _RUN_KEYS)
    parts.append(
        f"Keys of every method with a prior ({more}) are in the [reference](../reference/settings.md)."
    )
    return "\n".join(parts if row.uses_prior else parts[:-1])


def _section(name: str) -> type[BaseModel] | None:
    kind = RunConfig.model_fields[name].annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _readers(section: str) -> list[str]:
    if section == "noise":
        return [name for name, row in METHODS.items() if row.uses_prior and row.chooses_noise_level]
    return [name for name, row in METHODS.items() if section in row.sections]


def _rows(section: type[BaseModel], prefix: str = "") -> list[str]:
    rows = []
    for name, field in section.model_fields.items():
        rows.append(_row(section, name, prefix))
        inner = [kind for kind in get_args(field.annotation) if isinstance(kind, type)]
        for kind in inner:
            if get_origin(kind) is None and issubclass(kind, BaseModel):
                rows += _rows(kind, f"{prefix}{name}.")
    return rows


def _row(section: type[BaseModel], name: str, prefix: str = "") -> str:
    field = section.model_fields[name]
    default = "" if field.default is PydanticUndefined else _code(field.default)
    return f"| `{prefix}{name}` | {default} | {_cell(field.description)} |"


def _code(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, float):
        return f"`{value:.4g}`"
    if isinstance(value, dict):
        value = {
            key: float(f"{item:.4g}") if isinstance(item, float) else item for key, item in value.items()
        }
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    return f"`{text}`"


def _cell(text: str | None) -> str:
    return (text or "").replace("|", r"\|").replace("\n", " ")


def _sentence(text: str | None) -> str:
    return (text or "").strip().split("\n\n")[0].replace("\n", " ")
