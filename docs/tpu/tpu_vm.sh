#!/bin/sh
# Trains on a TPU slice:  docs/tpu/tpu_vm.sh NAME ZONE --out /shared/runs/grammar
# NAME is that of gcloud compute tpus tpu-vm create NAME --accelerator-type=v5litepod-16 ...; every
# worker of it has this repository in ~/seqkd_jax, and /shared is one disk (Filestore, or a bucket
# mounted with GCS FUSE). The first start installs Python 3.11, which the images lack, and the
# library. Expected: the table of train.py, from worker 0. The workers find each other by
# themselves; a preempted slice is created again and the same command resumes. Not run on a TPU yet.
name=$1 zone=$2
shift 2
gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="
  set -e; cd ~/seqkd_jax
  [ -x venv/bin/seqkd ] || {
    sudo apt-get install -y python3.11-venv; python3.11 -m venv venv
    venv/bin/pip install -q -e '.[tpu]'
  }
  venv/bin/python docs/tpu/train.py --tokens 16384 $*"
