"""The tests are of their own world: what a person has told their shell about a daemon of theirs is none of it."""

import os

for name in ("TIDEGATE_CONFIG", "STATE_DIRECTORY", "RUNTIME_DIRECTORY", "NOTIFY_SOCKET", "JOURNAL_STREAM"):
    os.environ.pop(name, None)
