"""An extension of griffe: the examples of docstrings are shown as code.

Our docstrings call the section ``Example:``, as the google style does; griffe takes only ``Examples:`` for code, and makes of
the other a quoted paragraph.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object


class Examples(Extension):
    """Gives the section the name that griffe knows."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """A module, class, function or attribute was read."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
