# shellcheck shell=bash disable=SC2034 # some names are for the scripts only
# What the scripts of this directory share: places, messages, Debian packages, ports, daemons.
# Sourced, never run. A script that sources it gets `set -euo pipefail`.
set -euo pipefail

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
VENV=$ROOT/.venv
CACHE=${CASABINDER_CACHE:-${HOME:?HOME is not set, and neither is CASABINDER_CACHE}/.cache/casabinder}
[[ $CACHE == /* ]] || CACHE=$PWD/$CACHE
TOOLS=$CACHE/tools # programs taken out of Debian packages without installing them
LOGS=$CACHE/log
RUN=$CACHE/run # what is running: pid files, the registry's configuration
SITE=$CACHE/site.yaml
SCRIPT=$(basename -- "$0")
export CASABINDER_CACHE=$CACHE
# root's PATH lacks the sbin directories under some ways of becoming root; dockerd and iptables live there
export PATH=$TOOLS/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin

# --- messages ----------------------------------------------------------------------------------------------

ACTIONS=0 # how many things were said to be done: nothing said, nothing done

# say TEXT: one line for one action.
say() {
  ACTIONS=$((ACTIONS + 1))
  printf '%s: %s\n' "$SCRIPT" "$*"
}

# die TEXT: one sentence, and the end.
die() {
  printf '%s: %s\n' "$SCRIPT" "$*" >&2
  exit 1
}

# logged NAME COMMAND...: run a command with its output in the log NAME; show the end of it if the command fails.
logged() {
  local log=$LOGS/$1.log
  shift
  mkdir -p -- "$LOGS"
  printf '\n%(%Y-%m-%dT%H:%M:%S%z)T $ %s\n' -1 "$*" >>"$log"
  "$@" </dev/null >>"$log" 2>&1 9>&- && return 0
  tail -n 12 -- "$log" >&2
  return 1
}

# --- who and what is here ----------------------------------------------------------------------------------

is_root() { [[ $EUID -eq 0 ]]; }
have() { command -v -- "$1" >/dev/null 2>&1; }
has_systemd() { [[ -d /run/systemd/system ]]; }

# wait_until SECONDS COMMAND...: try until the command succeeds; fails when the time is over.
wait_until() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.2
  done
}

# one_at_a_time: hold the cache's lock (file descriptor 9) until this script ends. Daemons are started without it.
one_at_a_time() {
  mkdir -p -- "$CACHE" 2>/dev/null || die "cannot make the cache directory $CACHE: set CASABINDER_CACHE to a directory you may write."
  exec 9>"$CACHE/lock"
  flock -n 9 && return 0
  say "waiting for another script that uses $CACHE"
  flock -w 1800 9 || die "another script has held $CACHE/lock for half an hour."
}

# --- Debian packages ---------------------------------------------------------------------------------------

MISSING=() # packages that install_missing will install

# need COMMAND-OR-FILE PACKAGE: note the package if the command (or the file, when it starts with /) is not there.
need() {
  if [[ $1 == /* ]]; then [[ -e $1 ]]; else have "$1"; fi || MISSING+=("$2")
}

# install_missing: install the noted packages, as root. The package lists are brought up to date once, and only here.
install_missing() {
  ((${#MISSING[@]})) || return 0
  have apt-get || die "these Debian packages (or what they provide) are missing, and there is no apt-get to install them: ${MISSING[*]}"
  if [[ -z ${APT_UPDATED:-} ]]; then
    say "updating the package lists"
    # A repository of somebody else's that is out of order is no reason to stop: installing tells what really matters.
    logged apt apt-get -q update 2>/dev/null || true
    APT_UPDATED=1
  fi
  say "installing ${MISSING[*]}"
  DEBIAN_FRONTEND=noninteractive logged apt apt-get -q -y -o DPkg::Lock::Timeout=600 install --no-install-recommends "${MISSING[@]}" ||
    die "apt-get could not install ${MISSING[*]}: see $LOGS/apt.log"
  MISSING=()
  hash -r
}

# debian_mirrors: the addresses this machine takes Debian from, one per line, whatever the format of its sources and
# even before it has any package lists. Debian's own come first; another vendor's fails by its signature.
debian_mirrors() {
  apt-get update --print-uris 2>/dev/null |
    sed -n "s,^'\(.*/\)dists/.*/main/binary-.*,\1,p" | awk '!seen[$0]++ { print ($0 ~ /\/debian\/$/ ? 0 : 1), $0 }' |
    sort -s -n -k 1,1 | cut -d ' ' -f 2-
}

# unpack_deb SUITE PACKAGE DIRECTORY: put the files of a Debian package in a directory, installing nothing. Works for
# an ordinary user: apt runs with lists, cache and state of its own, on this machine's mirror and Debian's keys.
unpack_deb() {
  local suite=$1 package=$2 target=$3 keys=/usr/share/keyrings/debian-archive-keyring.gpg mirror work deb
  have apt-get && have dpkg-deb || return 1
  [[ -r $keys ]] || return 1
  rm -rf -- "$CACHE"/apt.?????? # what an interrupted run left
  work=$(mktemp -d -- "$CACHE/apt.XXXXXX")
  mkdir -p -- "$work/lists/partial" "$work/cache/archives/partial" "$work/state"
  : >"$work/status"
  # Frozen mirrors serve a Release file past its date; hooks of the machine would touch what is not ours.
  cat >"$work/apt.conf" <<CONF
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
Dir::State "$work/state";
Dir::State::lists "$work/lists";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
Dir::Etc::SourceList "$work/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Acquire::Check-Valid-Until "false";
APT::Sandbox::User "$(id -un)";
CONF
  while read -r mirror; do
    printf 'deb [signed-by=%s lang=none target=Packages] %s %s main\n' "$keys" "$mirror" "$suite" >"$work/sources.list"
    logged apt apt-get -q -c "$work/apt.conf" update 2>/dev/null || continue
    (cd -- "$work" && logged apt apt-get -q -c "$work/apt.conf" download "$package" 2>/dev/null) || continue
    deb=("$work"/*.deb)
    mkdir -p -- "$target"
    dpkg-deb -x "${deb[0]}" "$target"
    rm -rf -- "$work"
    return 0
  done < <(debian_mirrors)
  rm -rf -- "$work"
  return 1
}

# --- ports -------------------------------------------------------------------------------------------------

# port_taken PORT: does anything listen on this port of the loopback address?
port_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# http_status PORT PATH: print the status of a GET on the loopback address ("200"); fails when nothing answers.
http_status() {
  (
    exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
    printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1:%s\r\n\r\n' "$2" "$1" >&3
    read -r -t 5 _ status _ <&3 && [[ $status == [1-5][0-9][0-9] ]] && printf '%s\n' "$status"
  ) 2>/dev/null
}

# --- daemons -----------------------------------------------------------------------------------------------
# $RUN/NAME.pid holds "PID START BOOT": a process is ours only while all three agree, so that a pid that
# the system has given to another process, or a file from before a reboot, never gets anything killed.

# process_birth PID: print "START BOOT" of a living process (clock ticks since boot, id of the boot).
process_birth() {
  local stat fields boot
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
  read -ra fields <<<"${stat##*) }" # the name before the last parenthesis may hold anything
  [[ ${fields[0]} != Z ]] || return 1
  boot=$(</proc/sys/kernel/random/boot_id)
  printf '%s %s\n' "${fields[19]}" "$boot"
}

# daemon_record NAME PID: note that this process is ours.
daemon_record() {
  local birth
  birth=$(process_birth "$2") || return 1
  mkdir -p -- "$RUN"
  printf '%s %s\n' "$2" "$birth" >"$RUN/$1.pid"
}

# daemon_pid NAME: print the pid of our daemon if it lives.
daemon_pid() {
  local pid birth
  [[ -r $RUN/$1.pid ]] && read -r pid birth <"$RUN/$1.pid" || return 1
  [[ $pid =~ ^[0-9]+$ && $(process_birth "$pid") == "$birth" ]] || return 1
  printf '%s\n' "$pid"
}

# daemon_start NAME COMMAND...: start a process that outlives this script and its terminal; log in $LOGS/NAME.log.
daemon_start() {
  local name=$1 log=$LOGS/$1.log
  shift
  mkdir -p -- "$LOGS"
  [[ ! -s $log ]] || mv -f -- "$log" "$log.1"
  (
    cd /
    ulimit -n "$(ulimit -Hn)" 2>/dev/null || true
    exec setsid nohup "$@" </dev/null >"$log" 2>&1 9>&-
  ) &
  daemon_record "$name" "$!" || true
}

# daemon_stop NAME SECONDS: end our daemon politely. Status 1: not running; 2: still there after that time.
daemon_stop() {
  local pid
  pid=$(daemon_pid "$1") || {
    rm -f -- "$RUN/$1.pid"
    return 1
  }
  kill -TERM "$pid"
  wait_until "$2" daemon_gone "$1" || return 2
  rm -f -- "$RUN/$1.pid"
}

daemon_gone() { ! daemon_pid "$1" >/dev/null; }

# --- Docker ------------------------------------------------------------------------------------------------

docker_answers() { have docker && timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# dockerd_process: print the pid of a Docker Engine of this machine (not of one inside a container), answering or not.
dockerd_process() {
  local dir name here
  here=$(readlink /proc/self/ns/pid)
  for dir in /proc/[0-9]*; do
    { name=$(<"$dir/comm"); } 2>/dev/null || continue
    [[ $name == dockerd && $(readlink "$dir/ns/pid" 2>/dev/null) == "$here" ]] || continue
    printf '%s\n' "${dir#/proc/}"
    return 0
  done
  return 1
}
