"""What is inside a run file.

``run``     one row a part: ``info``, ``tensors`` (both JSON, deflated), ``tail`` (JSON: how far the
            run is, rewritten at every commit).
``chunk``   packed rows of steps (`steadygrad.runfile.chunk`). ``first`` counts the readings before
            the chunk, so chunks in its order are in order of writing. ``tier`` is the resolution
            its rows were brought to, ``held`` is 1 where rows around a finding were left finer,
            ``serial`` changes whenever the row does.
``scalar``  packed named scalars (`steadygrad.runfile.scalars`), likewise.
``event``   findings, incidents and looks inside the model as JSON.

A new version of the layout gets a new `VERSION`: an older steadygrad then refuses the file with a
clear error instead of misreading it. Statements are short because page one must hold them all.
"""

from __future__ import annotations

APPLICATION_ID = 0x53474752
VERSION = 1

TABLES = (
    "CREATE TABLE run(id INTEGER PRIMARY KEY,key,value)",
    "CREATE TABLE chunk(first INTEGER PRIMARY KEY,serial,rows,tensors,tier,held,head,body)",
    "CREATE TABLE scalar(first INTEGER PRIMARY KEY,serial,rows,tier,data)",
    "CREATE TABLE event(id INTEGER PRIMARY KEY,kind,severity,step,data)",
)

INFO_ROW, TENSORS_ROW, TAIL_ROW = 1, 2, 3
SIDE_FILES = ("-wal", "-shm", "-journal")
