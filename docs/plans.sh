#!/bin/sh
# Compiles the programs of the paper's models for slices of eight chips; docs/tpu.md shows the table.
#
#   sh docs/plans.sh docs/results/plan.json        in an environment with libtpu, without a TPU
#   python -m seqkd_jax.report docs/tpu.md
#
# Further arguments go to seqkd plan, such as --no-largest, which compiles each program only once.
# 24 programs: 36 minutes of compilation on two cores, and five times as long with the largest
# batches. seqkd plan with the options of one row compiles that row alone.
out=${1:?give the JSON file to write}
shift
for slice in v5e:2x4 v4:2x2x2 v6e:2x4; do
  plan="python -m seqkd_jax plan --topology $slice --dtype bfloat16 --out $out"
  $plan --embed 500 --hidden 500 "$@" || exit 1
  $plan --embed 1000 --hidden 1000 --layers 4 --programs train search "$@" || exit 1
  $plan --embed 300 --hidden 300 "$@" || exit 1
done
