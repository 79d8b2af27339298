#!/usr/bin/env bash
# Starts a real Slurm cluster (1 slurmctld, N slurmd's, own munged) on this host, loopback only.
# Run as root. Records the pid of everything it starts in $SLURM_TEST_DIR/run/*.pid; stop.sh ends only those.
# Settings, all by environment:
#   SLURM_TEST_DIR  where everything lies            (/tmp/slurm-test)
#   NODES CPUS MEM  number of nodes, CPUs and MB each (4 2 2000)
#   GPU_NODES GPUS  how many of the last nodes have GPUs, and how many each (1 2; fake: plain /dev/ttyN)
#   ACCOUNTING      0: accounting_storage/none; 1: mariadbd + slurmdbd, so that sacct works (0)
#   CGROUP          0: jobacct poll for memory; 1: cgroup v1 memory limits, real OUT_OF_MEMORY (0)
#   BASE_PORT       slurmctld's port; slurmd's +1.., slurmdbd +50, mariadbd +51 (17000)
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
DIR=${SLURM_TEST_DIR:-/tmp/slurm-test}
NODES=${NODES:-4} CPUS=${CPUS:-2} MEM=${MEM:-2000}
GPU_NODES=${GPU_NODES:-1} GPUS=${GPUS:-2}
ACCOUNTING=${ACCOUNTING:-0} CGROUP=${CGROUP:-0}
BASE_PORT=${BASE_PORT:-17000}
HOST=$(hostname -s)
t0=$(date +%s.%N)
[ "$(id -u)" = 0 ] || { echo "start.sh: run as root" >&2; exit 1; }
for b in munged slurmctld slurmd sbatch; do command -v $b >/dev/null || { echo "start.sh: no $b (apt-get install --no-install-recommends slurmctld slurmd slurm-client munge)" >&2; exit 1; }; done
if ls "$DIR"/run/*.pid >/dev/null 2>&1; then echo "start.sh: $DIR/run has pid files; stop.sh first" >&2; exit 1; fi
if [ -e /etc/slurm/slurm.conf ] && [ ! -L /etc/slurm/slurm.conf ]; then
  echo "start.sh: /etc/slurm/slurm.conf is a file that this script did not make; left alone" >&2; exit 1; fi

rm -rf "$DIR"; mkdir -p "$DIR"/{run,log,state,spool,etc}; chmod 755 "$DIR" "$DIR"/run; chmod 700 "$DIR"/state

bg() { # bg NAME command...: starts it in its own session, pid to run/NAME.pid
  local name=$1; shift
  setsid -f bash -c 'echo $$ > "$0"; exec "${@}"' "$DIR/run/$name.pid" "$@" >"$DIR/log/$name.out" 2>&1 </dev/null
}
wait_for() { # wait_for SECONDS WHAT command...
  local n=$(( $1 * 10 )) what=$2; shift 2
  local end=$((SECONDS + n / 10)); while (( SECONDS <= end )); do timeout 5 "$@" >/dev/null 2>&1 && return 0; sleep 0.1; done
  echo "start.sh: $what did not come up; its log is under $DIR/log" >&2; return 1
}

# --- configuration
expand=$([ "$NODES" = 1 ] && echo "n1" || echo "n[1-$NODES]")
lines="" gpart=""
for ((i = 1; i <= NODES; i++)); do
  gres=""; (( GPUS > 0 && i > NODES - GPU_NODES )) && gres=" Gres=gpu:$GPUS"
  lines+="NodeName=n$i NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$((BASE_PORT + i)) CPUs=$CPUS RealMemory=$MEM$gres State=UNKNOWN"$'\n'
  mkdir -p "$DIR/spool/n$i"
done
: > "$DIR/etc/gres.conf"
if (( GPUS > 0 && GPU_NODES > 0 )); then
  first=$((NODES - GPU_NODES + 1))
  for ((i = first; i <= NODES; i++)); do echo "NodeName=n$i Name=gpu File=/dev/tty[1-$GPUS]" >> "$DIR/etc/gres.conf"; done
  gpart="PartitionName=gpu   Nodes=$(for ((i = first; i <= NODES; i++)); do printf 'n%s,' $i; done | sed 's/,$//') Default=NO  DefaultTime=10 MaxTime=1440 State=UP"
fi
if [ "$ACCOUNTING" = 1 ]; then
  acct="AccountingStorageType=accounting_storage/slurmdbd"$'\n'"AccountingStorageHost=127.0.0.1"$'\n'"AccountingStoragePort=$((BASE_PORT + 50))"$'\n'"AccountingStoragePass=$DIR/run/munge.sock"$'\n'"AccountingStorageTRES=gres/gpu"
else acct="AccountingStorageType=accounting_storage/none"; fi
if [ "$CGROUP" = 1 ]; then
  proctrack=proctrack/cgroup task=task/cgroup
  printf '%s\n' CgroupPlugin=cgroup/v1 CgroupAutomount=yes ConstrainRAMSpace=yes ConstrainSwapSpace=no ConstrainCores=no ConstrainDevices=no > "$DIR/etc/cgroup.conf"
else proctrack=proctrack/linuxproc task=task/none; fi
python3 - "$HERE/slurm.conf.in" "$DIR/etc/slurm.conf" "HOST=$HOST" "DIR=$DIR" USER=root "CTLD_PORT=$BASE_PORT" \
  "PROCTRACK=$proctrack" "TASK=$task" "ACCT_FREQ=1" "SLURMD_TIMEOUT=${SLURMD_TIMEOUT:-10}" \
  "ACCOUNTING_LINES=$acct" "NODE_LINES=$lines" "ALL_NODES=$expand" "GPU_PARTITION=$gpart" <<'PY'
import sys
text = open(sys.argv[1]).read()
for pair in sys.argv[3:]:
    k, v = pair.split("=", 1)
    text = text.replace(f"@{k}@", v)
open(sys.argv[2], "w").write(text)
PY
[ "$CGROUP" = 1 ] && sed -i 's/^JobAcctGatherParams=.*//; s#^JobAcctGatherType=.*#JobAcctGatherType=jobacct_gather/cgroup#' "$DIR/etc/slurm.conf"
# The Snakemake plugin drops SLURM_CONF inside the job, so the default place must answer too.
mkdir -p /etc/slurm; for f in slurm.conf gres.conf cgroup.conf; do
  [ -e "$DIR/etc/$f" ] && { [ ! -e "/etc/slurm/$f" ] || [ -L "/etc/slurm/$f" ]; } && ln -sfn "$DIR/etc/$f" "/etc/slurm/$f"; done
export SLURM_CONF=$DIR/etc/slurm.conf

# --- munge, with a key of its own (no /etc/munge, no munge user)
(umask 077; head -c 128 /dev/urandom > "$DIR/etc/munge.key")
bg munged munged --foreground --force --num-threads=4 --key-file="$DIR/etc/munge.key" --socket="$DIR/run/munge.sock" \
   --pid-file="$DIR/run/munged.own" --seed-file="$DIR/etc/munge.seed"
wait_for 10 munged munge -S "$DIR/run/munge.sock" -n

if [ "$ACCOUNTING" = 1 ]; then
  mkdir -p "$DIR/db"; chown mysql: "$DIR/db"
  mariadb-install-db --no-defaults --user=mysql --datadir="$DIR/db" --auth-root-authentication-method=normal --skip-test-db >"$DIR/log/install-db.out" 2>&1
  mkdir -p "$DIR/run/db"; chown mysql: "$DIR/run/db"
  bg mariadbd mariadbd --no-defaults --user=mysql --datadir="$DIR/db" --socket="$DIR/run/db/db.sock" --pid-file="$DIR/run/db/own" \
     --bind-address=127.0.0.1 --port=$((BASE_PORT + 51)) --skip-log-bin --innodb-flush-log-at-trx-commit=0 --innodb-buffer-pool-size=64M --innodb-log-file-size=64M --innodb-lock-wait-timeout=900
  wait_for 30 mariadbd mariadb --no-defaults -uroot -S "$DIR/run/db/db.sock" -e 'select 1'
  pw=$(head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n')
  mariadb --no-defaults -uroot -S "$DIR/run/db/db.sock" -e "create database slurm_acct_db; create user 'slurm'@'localhost' identified by '$pw'; create user 'slurm'@'127.0.0.1' identified by '$pw'; grant all on slurm_acct_db.* to 'slurm'@'localhost'; grant all on slurm_acct_db.* to 'slurm'@'127.0.0.1';"
  (umask 077; cat > "$DIR/etc/slurmdbd.conf" <<DBD
AuthType=auth/munge
AuthInfo=socket=$DIR/run/munge.sock
DbdHost=$HOST
DbdAddr=127.0.0.1
DbdPort=$((BASE_PORT + 50))
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((BASE_PORT + 51))
StorageUser=slurm
StoragePass=$pw
StorageLoc=slurm_acct_db
LogFile=$DIR/log/slurmdbd.log
PidFile=$DIR/run/slurmdbd.own.pid
DBD
  )
  bg slurmdbd slurmdbd -D
  wait_for 60 slurmdbd sacctmgr -n -i show cluster
  sacctmgr -n -i add cluster citest >/dev/null 2>&1 || true
  sacctmgr -n -i add account default Description=default Organization=ci >/dev/null 2>&1 || true
  sacctmgr -n -i add user root Account=default >/dev/null 2>&1 || true
fi

bg slurmctld slurmctld -D -c
wait_for 20 slurmctld scontrol ping
for ((i = 1; i <= NODES; i++)); do bg slurmd-n$i slurmd -D -N n$i; done
all_idle() { [ "$(sinfo -h -N -p main -t idle -o %N | sort -u | wc -l)" = "$NODES" ]; }; export -f all_idle; export NODES
wait_for 30 "some slurmd" bash -c all_idle
printf 'export SLURM_CONF=%s\nexport SLURM_TEST_DIR=%s\n' "$SLURM_CONF" "$DIR" > "$DIR/env.sh"
sinfo
printf 'cluster up in %.1f s; conf %s\n' "$(echo "$(date +%s.%N) $t0" | awk '{print $1-$2}')" "$SLURM_CONF"
