#!/bin/sh
# work.sh JOB SECONDS CODE...   What the jobs of the crash tests run: a line in $LEDGER at the start and one at the end,
# each one write with O_APPEND, by the shell alone. The n-th attempt ends with the n-th CODE, later ones with the last
# of them; a negative one is a signal that it sends itself.
job=$1 seconds=$2
shift 2
n=$TIDEGATE_ATTEMPT
while [ "$n" -gt 1 ] && [ $# -gt 1 ]; do
	shift
	n=$((n - 1))
done
code=$1
line="$TIDEGATE_RUN_ID $TIDEGATE_ATTEMPT $TIDEGATE_SCHEDULED_AT $job $$ $code"
echo "start $line" >>"$LEDGER"
[ "$seconds" = 0 ] || sleep "$seconds"
echo "end $line" >>"$LEDGER"
[ "$code" -ge 0 ] || kill "$code" $$
exit "$code"
