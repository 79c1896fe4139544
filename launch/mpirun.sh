#!/usr/bin/env bash
# Trains a run file on the hosts of a file, by Open MPI's mpirun: docs/launch-mpirun.md.
#
#   launch/mpirun.sh HOSTS RANKS RUN.toml [more arguments of `phalanx train`]
#
# PHALANX is the program, by its path on every host [default: target/mpi/release/phalanx of this tree].
set -euo pipefail

if [ $# -lt 3 ]; then
    sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
hosts=$1 ranks=$2
shift 2
phalanx=${PHALANX:-$(dirname "$(readlink -f "$0")")/../target/mpi/release/phalanx}

# Checks the hosts, binds each rank to its CPUs, has lost hosts noticed within seconds, and starts the ranks again from
# the last checkpoint when one is lost.
exec "$phalanx" launch --hosts "$hosts" -n "$ranks" ${RESTARTS:+--max-restarts "$RESTARTS"} train "$@"
