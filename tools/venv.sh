# Sourced by examples/run.sh and tests/run.sh: makes or reuses a virtual environment with pagnp in it.
#
#   root        folder of the project, set by the caller
#   PAGNP_VENV  the environment to use; default: .venv in the project
#   PYTHON      the Python to make it with; default: the first of 3.11 to 3.13 found
#
# ready_venv EXTRAS sets $venv. It installs again only when the sources or the extras changed.

say() {
    printf 'pagnp: %s\n' "$*" >&2
}

fail() {
    say "error: $*"
    exit 1
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

fingerprint() {
    (cd "$root" && find pyproject.toml README.md LICENSE pagnp cuda -type f ! -name '*.py[co]' ! -name '*.nb[ci]' \
        -exec cksum {} + | sort -k 3 | cksum)
}

ready_venv() {
    extras=$1
    venv=${PAGNP_VENV:-$root/.venv}
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        python=$(find_python) || fail "need Python 3.11, 3.12 or 3.13; set PYTHON=/path/to/python3"
        mkdir -p "$venv" || fail "cannot make $venv; name another place: PAGNP_VENV=/path/to/folder"
        say "making $venv with $python (once)"
        "$python" -m venv --clear "$venv" || fail "'$python -m venv' failed; on Debian or Ubuntu: apt install python3-venv"
    fi
    # One stamp for all extras: "sources extras". Whoever installs replaces it, so it always tells what is there.
    stamp=$venv/pagnp-installed
    now=$(fingerprint)
    case "$(cat "$stamp" 2>/dev/null)" in
        "$now [$extras]") return ;;
        "$now ["*) [ -n "$extras" ] || return 0 ;;
    esac
    say "installing pagnp${extras:+ with extra '$extras'} into $venv (a minute or two the first time)"
    rm -f "$stamp"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$root${extras:+[$extras]}" \
        || fail "pip could not install pagnp (see above)"
    printf '%s' "$now [$extras]" >"$stamp"
}
