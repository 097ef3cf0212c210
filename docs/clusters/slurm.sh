#!/bin/bash
# A Ray cluster on the nodes of a Slurm job, and the pipeline on the first of them. From the checkout, on a file system
# that all nodes see:
#   sbatch docs/clusters/slurm.sh                     (dvc repro)
#   sbatch docs/clusters/slurm.sh dvc repro extract@mobilenet_v2
#SBATCH --job-name=ffdi
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=08:00:00
set -euo pipefail

[ -d .venv ] && source .venv/bin/activate
export RAY_USAGE_STATS_ENABLED=0 DVC_NO_ANALYTICS=true
export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"      # since Slurm 22.05 srun does not take it from sbatch
# Whoever reaches the ports of a Ray cluster can run programs on it, so on a shared machine it asks for a token.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
ip=$(srun --nodes=1 --ntasks=1 --overlap --nodelist="$head" hostname --ip-address | awk '{print $1}')
export RAY_ADDRESS="$ip:$((20000 + SLURM_JOB_ID % 20000))"
node=(--num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" --block)

srun --nodes=1 --ntasks=1 --overlap --nodelist="$head" --export=ALL,RAY_ADDRESS= \
    ray start --head --node-ip-address="$ip" --port="${RAY_ADDRESS#*:}" --include-dashboard=false "${node[@]}" &
trap 'kill $(jobs -p) 2> /dev/null || true; wait' EXIT
until ray status > /dev/null 2>&1; do
    kill -0 %1 || exit 1                              # the head has ended: its reason is above
    sleep 1
done
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    others=$((SLURM_JOB_NUM_NODES - 1))
    srun --nodes="$others" --ntasks="$others" --overlap --exclude="$head" \
        ray start --address="$RAY_ADDRESS" "${node[@]}" &
fi

[ $# -gt 0 ] || set -- dvc repro
"$@"                                                  # ffdi waits for the workers, and takes those that come later
