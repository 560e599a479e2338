"""One run is one SQLite file: written by one background thread, readable while written.

`RunWriter` records, `open_run` reads, `list_runs` tells what is in a folder. Nothing here imports
torch.
"""

from steadygrad.runfile.listing import RunSummary, list_runs
from steadygrad.runfile.reader import Run, open_run
from steadygrad.runfile.unknown import UnknownName
from steadygrad.runfile.writer import RunWriter

__all__ = ["Run", "RunSummary", "RunWriter", "UnknownName", "list_runs", "open_run"]
