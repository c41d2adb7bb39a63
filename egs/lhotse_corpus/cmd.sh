# shellcheck shell=bash
# Where this recipe's jobs run.  Sourced by run.sh; what the environment says goes first: KD_BACKEND=slurm ./run.sh
#   local  child processes on this machine, no more than its cores and memory allow
#   slurm  sbatch arrays; run.sh itself waits on this machine, and the folder of --work is shared with the nodes
export KD_BACKEND="${KD_BACKEND:-local}"
# How jobs' memory, GPUs and time become options of sbatch; copy the file to conf/slurm.conf and name it here to change that.
export KD_SLURM_CONF="${KD_SLURM_CONF:-$KD_ROOT/utils/slurm.conf}"
