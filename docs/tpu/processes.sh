#!/bin/sh
# Trains in several processes on this machine:  docs/tpu/processes.sh 2 --out runs/grammar
# Expected: the table of train.py, once; exit status 0. Ctrl-C stops all of them, with a checkpoint.
count=$1
shift
: "${PORT:=12355}"
process=1
while [ "$process" -lt "$count" ]; do
  python "$(dirname "$0")/train.py" --coordinator "127.0.0.1:$PORT" --processes "$count" \
    --process "$process" "$@" &
  process=$((process + 1))
done
python "$(dirname "$0")/train.py" --coordinator "127.0.0.1:$PORT" --processes "$count" \
  --process 0 "$@"
status=$?
wait
exit "$status"
