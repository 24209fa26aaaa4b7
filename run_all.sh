#!/usr/bin/env bash
# Sets up the environment if needed, then hands over to python -m finelib, which rebuilds every table, figure and notebook.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly ROOT
VENV="${FINE_VENV:-$ROOT/.venv}"
[[ "$VENV" == /* ]] || VENV="$PWD/$VENV"
readonly VENV
readonly STAMP="$VENV/.finelib-lock" # made before anything else; holds the lock's hash once all is installed
readonly UV=uv==0.13.9               # fetched where there is none on PATH

die() {
    echo "run_all.sh: $*" >&2
    exit 2
}

# Help, and wrong arguments, before anything is installed. What may be said is declared in finelib/runs/options.py, which
# any Python 3.11 can read.
check_arguments() {
    local python
    python="$(find_python)" || python="$VENV/bin/python"
    if [[ -x "$python" ]]; then
        PYTHONPATH="$ROOT" "$python" -B -m finelib.runs.options "$@" || exit
    elif [[ $action == help ]]; then
        echo "run_all.sh sets up an environment in .venv and rebuilds every table, figure and notebook; --setup only sets it"
        echo "up, --test runs the tests. It needs Python 3.11 or later on PATH, and lists its other options when it has one."
    fi
}

# A name on PATH is not enough: version managers leave launchers that fail when called, and an environment that is active
# goes when it is made anew.
find_python() {
    local name found
    for name in python3.11 python3.12 python3.13 python3 python; do
        while read -r found; do
            [[ "$found" != "$VENV"/* ]] || continue
            if "$found" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
                echo "$found"
                return
            fi
        done < <(type -ap "$name")
    done
    return 1
}

# What the stamp of a finished environment says. The place belongs to it: a moved environment does not work.
stamp() {
    "$VENV/bin/python" -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' \
        "$ROOT/requirements.txt" && echo "$VENV"
}

is_ready() {
    [[ -x "$VENV/bin/python" && "$(cat "$STAMP")" == "$(stamp 2>/dev/null)" ]]
}

set_up() {
    # looked at in this order: who installs makes the stamp first of all, and may be at it now
    if [[ -n "$(ls -A "$VENV" 2>/dev/null)" && ! -e "$STAMP" ]]; then
        use_as_it_is
    elif ! is_ready; then
        install_once
    fi
}

use_as_it_is() {
    echo "run_all.sh: using $VENV as it is (not made by this script)"
    [[ -x "$VENV/bin/python" ]] || die "$VENV: found no bin/python, expected a Python environment; move it away"
    local missing
    missing="$("$VENV/bin/python" -c 'import importlib.util as util, sys
print(*(m for m in ("torch", "transformers", "papermill", "pytest") if not util.find_spec(m)))')"
    [[ -z "$missing" ]] || die "$VENV: lacks $missing; install requirements.txt there, or unset FINE_VENV"
}

# One at a time: who comes while another installs waits and finds it done. The lock is the open stamp's, so it goes
# with the last process that holds it open, however that ends.
install_once() {
    local python
    python="$(find_python)" || die "found $(python3 --version 2>&1 || true), expected Python 3.11 or later on PATH"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        die "$python: has no venv or ensurepip, which Debian and Ubuntu pack apart: apt install python3-venv"
    { mkdir -p "$VENV" && : >>"$STAMP"; } 2>/dev/null ||
        die "$VENV: cannot be written; set FINE_VENV to a folder that can"
    exec 9>>"$STAMP"
    "$python" -c 'import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print(f"run_all.sh: another run_all.sh is installing into {sys.argv[1]}; waiting for it", flush=True)
    fcntl.flock(9, fcntl.LOCK_EX)' "$VENV" 2>/dev/null ||
        die "$VENV: cannot be locked; set FINE_VENV to a folder on a local disk"
    is_ready || install_lock "$python"
    exec 9>&-
}

install_lock() {
    local python="$1" log="$VENV/install.log" packages
    echo installing >"$STAMP"
    # an earlier environment, finished or not, goes; the stamp stays, so that an interruption is seen
    find "$VENV" -mindepth 1 -maxdepth 1 ! -name "${STAMP##*/}" -exec rm -rf {} +
    echo "run_all.sh: installing requirements.txt into $VENV with $("$python" --version) ($python)"
    echo "run_all.sh: about a minute with a fast network, once; all that is said meanwhile: $log"
    "$python" -m venv "$VENV" || die "$VENV: python -m venv failed, see above"
    install_packages "$log" ||
        die "requirements.txt could not be installed: $(grep ERROR "$log" | tail -n1 || true) (more in $log)"
    # lets every notebook of this environment import finelib; nothing is written into the checkout
    packages="$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
    echo "$ROOT" >"$packages/finelib.pth"
    stamp >"$STAMP"
    echo "run_all.sh: environment ready after $SECONDS s"
}

# PyTorch by pip, whose settings say which build of it (PIP_EXTRA_INDEX_URL) and which uv does not read; the rest by uv,
# several times as fast. Where uv cannot be had or fails, pip installs all.
install_packages() { # LOG
    local uv fetched=
    uv="$(command -v uv)" || uv="$VENV/bin/uv" fetched="$UV"
    if with_pip "$1" -c "$ROOT/requirements.txt" torch ${fetched:+"$fetched"} &&
        shown "$1" "$uv" pip install --python "$VENV/bin/python" -r "$ROOT/requirements.txt"; then
        return
    fi
    echo "run_all.sh: uv cannot be had, or does not reach the packages; now with pip alone, in about three minutes"
    with_pip "$1" -r "$ROOT/requirements.txt"
}

with_pip() { # LOG ARGUMENTS...
    shown "$1" "$VENV/bin/python" -m pip install --no-input --no-compile "${@:2}"
}

shown() { # LOG COMMAND...: its output to the log, and how far it is to the screen
    "${@:2}" 2>&1 | tee -a "$1" |
        awk '/^(Collecting|Installing|Building|Resolved|Prepared|Installed)/ { print substr($0, 1, 100); fflush() }'
}

main() {
    local word action=run
    for word in "$@"; do
        case "$word" in
            --help | -h) action=help ;;
            --test) [[ $action == help ]] || action='test' ;;
            --setup) [[ $action != run ]] || action=setup ;;
        esac
    done
    check_arguments "$@"
    [[ $action != help ]] || exit 0
    set_up
    export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
    # memory that is freed between training steps stays with the process, in large pages: that spares a step thousands
    # of page faults and a twentieth of its time (benchmarks/README.md); read by glibc, ignored elsewhere
    local keep=glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=17179869184
    export GLIBC_TUNABLES="${GLIBC_TUNABLES:-$keep:glibc.malloc.hugetlb=1}"
    # where bytecode is forbidden, as in many images, every process compiles PyTorch and the rest again, for 6 s; it goes
    # into the environment, so the checkout stays clean
    if [[ -n "${PYTHONDONTWRITEBYTECODE:-}" ]]; then
        unset PYTHONDONTWRITEBYTECODE
        export PYTHONPYCACHEPREFIX="$VENV/bytecode"
    fi
    case $action in
        setup) echo "run_all.sh: $VENV is ready" ;;
        test)
            export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
            cd "$ROOT"
            # whole files to each process, whose fixtures are made once; the longest files, the browser's, first
            exec "$VENV/bin/python" -m pytest -q -m "not long" -n logical --maxprocesses 8 --dist loadfile \
                --no-loadscope-reorder tests/test_browser.py tests/test_site.py tests
            ;;
        run) exec "$VENV/bin/python" -m finelib "$@" ;;
    esac
}

main "$@"
