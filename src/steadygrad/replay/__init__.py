"""One step of an incident bundle done again, as it was and with changes: which of them would have helped?"""

from steadygrad.replay.case import Case, open_case
from steadygrad.replay.change import Change, parse_change
from steadygrad.replay.replayed import Replayed, replay
from steadygrad.replay.table import told

__all__ = ["Case", "Change", "Replayed", "open_case", "parse_change", "replay", "told"]
