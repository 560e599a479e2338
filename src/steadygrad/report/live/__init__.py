"""Runs as a page in a browser while they are written; needs ``steadygrad[report]``.

``hub.Hub``        the runs of a folder, each read once however many tabs look at it
``tab.Tab``        one browser tab: its document, kept up to date
``drawing``        a run at one moment: its words and its course
``tensors``        the pictures below the course, prepared by another thread
``shown``          new numbers into pictures that are shown already
``pace``           how often a browser is given new pictures
``telling``        the words that are sent, and what the reader has in view
``fragments``      the words of the page, in parts that can be put in place of each other
``server``         who may ask, and what is answered
"""

from steadygrad.report.live.server import LiveServer

__all__ = ["LiveServer"]
