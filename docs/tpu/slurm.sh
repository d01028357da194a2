#!/bin/sh
#SBATCH --job-name=seqkd --nodes=1 --ntasks-per-node=8 --gpus-per-node=8 --cpus-per-task=8
#SBATCH --time=04:00:00 --signal=TERM@60 --requeue --open-mode=append
# Trains with one process for each GPU:  sbatch docs/tpu/slurm.sh --out /shared/runs/grammar
# Expected: the table of train.py in slurm-JOB.out. JAX finds address, number and rank in SLURM's
# variables, and gives each process of a node one of its GPUs, so every process must see them all:
# not --gpus-per-task. A minute before the time is up all processes save and stop (exit status 143),
# and the job is queued again, to go on from there; with other --nodes as well.
# Processes have been started with SLURM's variables, but not on a cluster with GPUs.
export XLA_PYTHON_CLIENT_MEM_FRACTION=0.9
srun --kill-on-bad-exit=1 python docs/tpu/train.py --tokens 16384 "$@"
status=$?
[ "$status" -eq 143 ] && scontrol requeue "$SLURM_JOB_ID"
exit "$status"
