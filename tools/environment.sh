# Sourced by tools/quickstart and tools/test: a virtual environment of the project's own, with the extras named.
# Usage: prepare_environment "test"      VENV chooses the folder, PYTHON the interpreter.
prepare_environment() {
    local extras=$1 python=${PYTHON:-python3}
    VENV=${VENV:-.venv}
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "Python 3.11 or newer is needed: set PYTHON to one" >&2
        exit 2
    fi
    [ -x "$VENV/bin/python" ] || "$python" -m venv "$VENV"
    echo "installing into $VENV (torch is large: minutes the first time)"
    "$VENV/bin/python" -m pip install --quiet --editable ".[$extras]" 2> "$VENV/install.log" || {
        tail -n 20 "$VENV/install.log" >&2
        exit 1
    }
    export PATH="$PWD/$VENV/bin:$PATH"
}

# A real Azure server for the tests of az://, where npm is; without it they are skipped and say so.
prepare_azurite() {
    command -v npm > /dev/null || return 0
    [ -x "$VENV/bin/azurite-blob" ] || npm install --global --prefix "$VENV" --silent --no-fund --no-audit azurite@3 \
        >> "$VENV/install.log" 2>&1 || echo "no Azurite: the tests of az:// are skipped" >&2
}
