#!/bin/sh
# Trains on a TPU slice:  docs/tpu/tpu_vm.sh NAME ZONE --out /shared/runs/grammar
# NAME is that of gcloud compute tpus tpu-vm create NAME --accelerator-type=v5litepod-16 ...; every
# worker of it has this repository in ~/seqkd_jax, and /shared is one disk (Filestore, or a bucket
# mounted with GCS FUSE). The first start installs the library. Expected: the table of train.py, from
# worker 0. The workers find each other by themselves; a preempted slice is created again and the
# same command resumes.
name=$1 zone=$2
shift 2
gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="
  cd ~/seqkd_jax && pip install -q -e '.[tpu]' && python docs/tpu/train.py --tokens 16384 $*"
