#!/bin/sh
# Starts HTCondor in a container of a pool. Arguments: the users ("alice:1001 bob:1002"), and a node's EXECUTE directory.
set -e
for user in $1; do
  # A node that was lost is started again in the container that it had.
  id "${user%:*}" >/dev/null 2>&1 || useradd --create-home --uid "${user#*:}" "${user%:*}"
done
socket=/var/run/docker.sock
if [ -S "$socket" ]; then
  group=$(stat -c %g "$socket")
  getent group "$group" >/dev/null || groupadd --gid "$group" engine
  usermod --append --groups "$(getent group "$group" | cut -d: -f1)" condor
fi
install -d -o condor -g condor /run/condor /var/log/condor /var/spool/condor /var/lib/condor
install -d -m 700 /etc/condor/tokens.d
if [ -n "${2-}" ]; then
  # Users must be able to go there; these directories are the container's own, but the last.
  directory=$2
  chown condor:condor "$directory"
  while [ "$directory" != / ]; do
    chmod a+rx "$directory"
    directory=$(dirname "$directory")
  done
fi
[ ! -e /dev/fuse ] || chmod 666 /dev/fuse
(umask 077 && condor_token_create -identity condor@testbed >/etc/condor/tokens.d/daemons)
exec condor_master -f
