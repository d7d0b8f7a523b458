"""The life of a run: every state it can be in, and the one door between two states. Nothing else moves a run.

A fire that is accepted becomes a run. What happens to it is one path through this table:

    HELD ──────► QUEUED ──────► STARTING ──────► RUNNING ──────► FINISHED
      │            ▲  │             │  │            │  │            ▲
      │            │  │             │  └─► STOPPING ◄──┘  ──────────┤
      │            │  │             │          │                    │
      │            └──┼── RETRYING ◄┴──────────┴────────────────────┘
      ▼               ▼
    SKIPPED        SKIPPED            (and every state but SKIPPED may go to FINISHED)

HELD waits for an earlier run of its own job, because the job says `overlap = "queue"` or "replace". It has no
place in the queue yet: which of two jobs comes first is decided among runs that could start.

QUEUED waits for the gates (engine/admission.py). It holds no slot. It may still be skipped, because its start
deadline passes or a newer fire replaces it; a person may cancel it (FINISHED, cancelled).

STARTING was handed to the executor and holds a slot from here on. The shell performs the Start only after the
Record in front of it is written, so a start nobody wrote down cannot happen. The executor answers once: RUNNING,
or the attempt failed to start. Where the machine was short of something that comes back (processes, memory,
descriptors) the same attempt is QUEUED again; so is one that an earlier life of the daemon provably never started.

RUNNING has a process. STOPPING was sent TERM, because of its time-out, a cancel, a replacement or a drain; after
`kill_grace` KILL follows. It still holds its slot: a process that will not die keeps costing what it costs. How
a STOPPING run ended is decided by why it was stopped, not by its exit status: a job that answers TERM with exit
0 has not succeeded.

RETRYING is between two attempts. It holds its overlap, so that the next fire of the job sees an unfinished run,
but no slot. Its run_id stays; its attempt counts up when it is queued again.

FINISHED has exactly one outcome. SKIPPED never started and has exactly one reason. Neither is ever left.
"""

from typing import Any, Final

from msgspec.structs import replace

from tidegate.model.run import Run, State

ALLOWED: Final[dict[State, frozenset[State]]] = {
    State.HELD: frozenset({State.QUEUED, State.SKIPPED, State.FINISHED}),
    State.QUEUED: frozenset({State.STARTING, State.SKIPPED, State.FINISHED}),
    State.STARTING: frozenset({State.QUEUED, State.RUNNING, State.STOPPING, State.RETRYING, State.FINISHED}),
    State.RUNNING: frozenset({State.STOPPING, State.RETRYING, State.FINISHED}),
    State.STOPPING: frozenset({State.RETRYING, State.FINISHED}),
    State.RETRYING: frozenset({State.QUEUED, State.FINISHED}),
    State.FINISHED: frozenset(),
    State.SKIPPED: frozenset(),
}

HOLDS_SLOT: Final = frozenset({State.STARTING, State.RUNNING, State.STOPPING})
NOT_STARTED: Final = frozenset({State.HELD, State.QUEUED})


def move(run: Run, new: State, **changes: Any) -> Run:
    """The run in its new state. An AssertionError is a bug of ours, never of the world."""
    assert new in ALLOWED[run.state], (run.run_id, run.state, new)
    return replace(run, state=new, **changes)
