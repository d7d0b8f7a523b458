"""Every constant of the house that bounds something, each with its reason."""

from typing import Final

# --- time ---------------------------------------------------------------------------------------
WAKEUP_S_MAX: Final = 30.0  # loop timers stand still while the host sleeps; look at the wall clock this often
MISSED_S: Final = 90.0  # a fire later than this was missed (sleep, step, downtime): 3 × WAKEUP_S_MAX
CLOCK_STEP_S: Final = 5.0  # wall and boot clock disagree by more: the wall clock was set
CLOCK_CORRECTION_S: Final = 3 * 3600.0  # cron(8): steps of 3 h and more are corrections, used immediately
HORIZON_YEARS: Final = 100  # a trigger with no fire this far ahead never fires (29 February on a given weekday: 40)
CATCH_UP_FIRES_MAX: Final = 1000  # missed fires listed for one job at once; older ones are skipped, and it is said

# --- the queue ----------------------------------------------------------------------------------
AGING_S: Final = 60.0  # waiting this long is worth one step of priority, so nothing starves
QUEUE_RUNS_MAX: Final = 100_000  # all runs not yet ended; about 1 KB each
JOB_QUEUE_RUNS_MAX: Final = 1000  # runs of one job waiting under overlap = "queue" or "allow"
LEARNED_KEYS_MAX: Final = 10_000  # jobs and tasks of which it is remembered what their runs took; about 600 bytes each
LEASES_MAX: Final = 10_000  # leases granted or waiting; about 1 KB each

# --- starts that cannot be ------------------------------------------------------------------------
FORK_RETRY_S: Final = 0.5  # EAGAIN, ENOMEM, EMFILE: the first wait before another start; doubles
FORK_RETRY_S_MAX: Final = 30.0
RERUNS_MAX: Final = 3  # interrupted attempts made up for beyond retries.max: a job that takes the machine down ends

# --- settings (threat 20) -----------------------------------------------------------------------
FILE_BYTES_MAX: Final = 16 * 1024 * 1024  # 10,000 jobs take 3 MB
FILES_MAX: Final = 10_000  # job files matched by one configuration
JOBS_MAX: Final = 100_000
DEPTH_MAX: Final = 32  # nesting of tables and arrays in one file
ERRORS_MAX: Final = 1000  # errors listed for one check; a person reads the first twenty
NAME_CHARS_MAX: Final = 100  # job names end up in file names, metric labels and SYSLOG_IDENTIFIER
ARG_BYTES_MAX: Final = 128 * 1024  # MAX_ARG_STRLEN of the kernel: longer ones fail at exec
CRONTAB_LINES_MAX: Final = 10_000  # of one crontab that is imported; a person's has a few
ARGV_BYTES_MAX: Final = 1024 * 1024  # under the kernel's usual ARG_MAX of 2 MiB, leaving room for env

# --- runs ---------------------------------------------------------------------------------------
TIMEOUT_S_DEFAULT: Final = 24 * 3600.0  # a job without a time-out is how hangs go unnoticed
KILL_GRACE_S_DEFAULT: Final = 10.0
OUTPUT_BYTES_DEFAULT: Final = 64 * 1024 * 1024
RETRIES_MAX: Final = 1000
PYTHON_ARGS_BYTES_MAX: Final = 64 * 1024  # of args and kwargs as JSON: they travel in one packet with the environment
PYTHON_HOST_RUNS_DEFAULT: Final = 100  # threads or coroutines in one process; more begin another
PYTHON_WORKER_RUNS_DEFAULT: Final = 100  # calls, then a process is replaced: whatever it leaks is bounded
RESULT_BYTES_MAX: Final = 16 * 1024  # of what a function returned, as JSON; a larger one is not kept
RESULT_DEPTH_MAX: Final = 64  # nesting of a result that is kept: readers of JSON give up at some depth
REASON_CHARS_MAX: Final = 500  # reasons are sentences

# --- history --------------------------------------------------------------------------------------
HISTORY_PENDING_MAX: Final = 20_000  # facts that wait while nothing can be written, about 1 KB each
PRUNE_EVERY_S: Final = 600.0  # retention is looked at this often: a ten-minute excess does nobody harm

# --- hooks ----------------------------------------------------------------------------------------
HOOKS_AT_ONCE: Final = 16  # messages on their way at one time; each may hold a thread and a connection
HOOK_QUEUE_MAX: Final = 1000  # messages that wait for one hook, or pings of one job; about 2 KB each
HOOK_RETRY_S: Final = 1.0  # before the second try of a message; doubles
HOOK_RETRY_S_MAX: Final = 60.0
HOOK_RETRY_AFTER_S_MAX: Final = 600.0  # what a server asks for with Retry-After is heeded up to this
PING_S: Final = 10.0  # one try of a ping: it answers at once or not at all
PING_RETRIES: Final = 3
DURATIONS_MIN: Final = 20  # successes before a job is measured by its own past: fewer have no 99th percentile
DURATIONS_MAX: Final = 1000  # newest successes that it is taken from; 8 KB a job
OVERRUN_MARGIN_S: Final = 1.0  # beyond the own 99th percentile: a job of 20 ms that takes 30 is no news
