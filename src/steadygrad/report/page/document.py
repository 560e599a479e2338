"""Words and pictures put into one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from bokeh.document import Document
from bokeh.embed import file_html
from bokeh.models import CustomJS
from bokeh.resources import Resources
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from steadygrad import __version__
from steadygrad.report.page.figures.script import script
from steadygrad.report.page.sections import Section
from steadygrad.report.wording import layer, visible

_READY = "document.dispatchEvent(new Event('steadygrad:ready'))"


def html(template: str, page: Mapping[str, Any], pictures: Sequence[Section]) -> str:
    """Make the file.

    Args:
        template: its name in ``page/templates``.
        page: what the template says; whatever it holds is escaped.
        pictures: what it shows.

    Returns:
        The whole HTML text; Bokeh's scripts are in it, and nothing is loaded.
    """
    known = variables({**page, "sections": pictures})
    if not pictures:
        return page_template(template).render(bokeh_css="", bokeh_js="", plot_script="", roots={}, **known)
    document = Document(title=str(page["title"]))
    with document.models.freeze():  # else every root would be searched again for each that is added
        for section in pictures:
            for model in section.models:
                document.add_root(model)
    document.js_on_event("document_ready", CustomJS(code=_READY))
    return str(
        file_html(
            document,
            Resources(mode="inline", minified=True),
            template=page_template(template),
            template_variables=known,
        )
    )


def variables(page: Mapping[str, Any]) -> dict[str, Any]:
    """What every template needs, for a served document too (`bokeh.document.Document.template_variables`).

    Args:
        page: what the template says.

    Returns:
        The variables.
    """
    style = (files("steadygrad.report.page") / "styles" / "page.css").read_text("utf-8")
    return {"page": {**page, "version": __version__}, "style": style, "behaviour": script("page.js")}


@cache
def page_template(name: str) -> Template:
    """A template that escapes every value; `bokeh.document.Document.template` takes it too.

    Args:
        name: its file in ``page/templates``.

    Returns:
        The template.
    """
    environment = Environment(
        loader=PackageLoader("steadygrad.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["layer"] = layer
    environment.filters["visible"] = lambda text: visible(str(text))
    environment.filters["lines"] = lambda text: "\n".join(map(visible, str(text).splitlines()))
    return environment.get_template(name)
