#!/usr/bin/env bash
# Sets up the environment if needed, then rebuilds every table, figure and notebook (python -m finelib.run).
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly ROOT
VENV="${FINE_VENV:-$ROOT/.venv}"
[[ "$VENV" == /* ]] || VENV="$PWD/$VENV"
readonly VENV
readonly STAMP="$VENV/.finelib-lock" # made before anything else; holds the lock's hash once all is installed
readonly SWITCHES=(--finetune-text --setup --test --help)
readonly WITH_OPTIONAL_VALUE=(--ray)
readonly WITH_VALUE=(--preset --source --only --seeds --out --jobs --text-encoder --tune)

help() {
    cat <<'HELP'
usage: run_all.sh [--preset smoke|demo|paper] [--source planted|public|DIR] [--only NAME] [--seeds N] [--out DIR]
                  [--jobs N] [--ray [ADDRESS]] [--text-encoder NAME_OR_FOLDER] [--finetune-text] [--tune N] [--setup]
                  [--test] [--help]

Rebuilds the paper's tables and figures and runs every notebook. The first call installs the pinned packages of
requirements.txt into .venv (about three minutes and 2.3 GB on disk with a CPU build of PyTorch); nothing is installed elsewhere.

  --preset NAME           smoke: every path in minutes; demo (default): what a newcomer waits for, 15 minutes;
                          paper: the paper's sizes and hyper-parameters, 5 seeds, for --source DIR
  --source NAME           planted (generated data with known answers), public (real CMU-MOSI, text and audio,
                          downloaded), public-mfn (real CMU-MOSI, three modalities, downloaded), or the folder
                          that holds the licensed feature files (data/README.md)
  --only NAME             one table, figure or notebook: table1, figure5, 08_real_mosi, or claims
  --seeds N               train every model with seeds 0 to N-1
  --out DIR               where everything is written: DIR/figures, DIR/runs (default: this folder)
  --jobs N                training runs at a time
  --ray [ADDRESS]         train on a Ray cluster: one started here, or the one at ADDRESS (auto, HOST:6379), whose
                          machines must all see this folder, DIR of --out and FINE_CACHE under the same paths (a
                          shared file system); GPUs: one run on each, or shared by the N runs of --jobs
  --text-encoder NAME     for raw text: all-MiniLM-L6-v2, a folder, a name on the Hugging Face hub, or
                          files (the source's own text features)
  --finetune-text         train the text encoder with the model
  --tune N                Tables 1-4: try N settings of every system, FINE too, and take the best on the dev split
  --setup                 only set up the environment
  --test                  set up the environment and run the tests
  --help                  this text

environment variables:
  FINE_VENV=DIR           the environment to use instead of .venv; one that was not made by this script is used as
                          it is, and nothing is installed in it
  FINE_CACHE=DIR          where downloads and text features are kept
  FINE_DATA_MIRROR=DIR    a folder that serves the public data where there is no network
  PIP_EXTRA_INDEX_URL     https://download.pytorch.org/whl/cpu spares a Linux machine without GPU the CUDA packages
HELP
}

die() {
    echo "run_all.sh: $*" >&2
    exit 2
}

# Which of run, setup, test and help is asked for; an unknown option ends here, before anything is installed.
read_options() {
    action=run
    while (($#)); do
        case "$1" in
            --help | -h) action=help ;;
            --setup) [[ $action != run ]] || action=setup ;;
            --test) [[ $action == help ]] || action=test ;;
            --finetune-text | --ray=*) ;;
            --ray) [[ "${2:---}" == -* ]] || shift ;;
            *)
                [[ " ${WITH_VALUE[*]} " == *" ${1%%=*} "* ]] ||
                    die "unknown option $1$(nearest "$1"); all options: run_all.sh --help"
                if [[ "$1" != *=* ]]; then
                    (($# > 1)) || die "option $1: found nothing after it, expected a value; see run_all.sh --help"
                    shift
                fi
                ;;
        esac
        shift
    done
}

nearest() {
    local python
    python="$(find_python)" || return 0
    "$python" - "$1" "${SWITCHES[@]}" "${WITH_OPTIONAL_VALUE[@]}" "${WITH_VALUE[@]}" <<'PYTHON'
import difflib, sys
for match in difflib.get_close_matches(sys.argv[1], sys.argv[2:], n=1):
    print(f" (did you mean {match}?)", end="")
PYTHON
}

# A name on PATH is not enough: version managers leave launchers that fail when called.
find_python() {
    local name
    for name in python3.11 python3.12 python3.13 python3 python; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$name"
            return
        fi
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
    echo "run_all.sh: about three minutes with a fast network, once; all of pip's output: $log"
    "$python" -m venv "$VENV" || die "$VENV: python -m venv failed, see above"
    "$VENV/bin/python" -m pip install --no-input -r "$ROOT/requirements.txt" 2>&1 | tee "$log" |
        awk '/^(Collecting|Installing|Building)/ { print substr($0, 1, 100); fflush() }' ||
        die "requirements.txt could not be installed: $(grep -m1 ERROR "$log" || tail -n1 "$log") (more in $log)"
    # lets every notebook of this environment import finelib; nothing is written into the checkout
    packages="$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
    echo "$ROOT" >"$packages/finelib.pth"
    stamp >"$STAMP"
    echo "run_all.sh: environment ready after $SECONDS s"
}

main() {
    read_options "$@"
    [[ $action != help ]] || { help && exit; }
    set_up
    export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
    # memory that is freed between training steps stays with the process, in large pages: that spares a step thousands
    # of page faults and a twentieth of its time (benchmarks/README.md); read by glibc, ignored elsewhere
    local keep=glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=17179869184
    export GLIBC_TUNABLES="${GLIBC_TUNABLES:-$keep:glibc.malloc.hugetlb=1}"
    case $action in
        setup) echo "run_all.sh: $VENV is ready" ;;
        test) cd "$ROOT" && exec "$VENV/bin/python" -m pytest -q ;;
        run) exec "$VENV/bin/python" -m finelib.run "$@" ;;
    esac
}

main "$@"
