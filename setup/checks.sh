# shellcheck shell=bash disable=SC2154
# What ./test runs besides pytest, and pytest itself. Sourced by ./test.

# shellcheck source=setup/steps.sh
source "$here/setup/steps.sh"

in_venv() { "$build/venv/bin/python" -m "$@"; }

static_checks() {
    say "== ruff, mypy"
    (cd "$here" && in_venv ruff check --no-cache . && in_venv ruff format --no-cache --check . &&
        in_venv mypy --cache-dir "$build/mypy")
}

rust_tests() {
    say "== Rust: format, clippy, tests"
    choose_rust || no_rust
    local cargo_=(env RUSTC="$rustc" CARGO_TARGET_DIR="$build/silicon" "$cargo")
    cd "$here/silicon" || exit
    # Debian's packages of Rust may come without these two; say so instead of passing over it.
    for part in fmt clippy; do
        "${cargo_[@]}" "$part" --version >/dev/null 2>&1 ||
            say "NOT RUN: cargo $part is not installed here"
    done
    if "${cargo_[@]}" fmt --version >/dev/null 2>&1; then "${cargo_[@]}" fmt --all --check; fi
    if "${cargo_[@]}" clippy --version >/dev/null 2>&1; then
        "${cargo_[@]}" clippy --release --locked --all-targets -- -D warnings
    fi
    "${cargo_[@]}" test --release --locked
    cd "$here" || exit
}

page_tests() {
    say "== the console's page"
    npm_web run check
    npm_web test
}

# As the user to whom state belongs: what runs in the tests is what runs for users.
python_tests() {
    local artifacts=${SPACEGRAY_ARTIFACTS:-$build/artifacts}
    mkdir -p "$artifacts"
    if [[ $caller == root ]]; then chown "$service_user" "$artifacts"; fi
    cd "$here" || exit
    as_user env SPACEGRAY_SET_UP=done SPACEGRAY_ARTIFACTS="$artifacts" PYTHONDONTWRITEBYTECODE=1 \
        PATH="$build/browsers/bin:$PATH" \
        HYPOTHESIS_STORAGE_DIRECTORY="$artifacts/hypothesis" \
        "$build/venv/bin/python" -m pytest --durations=20 --durations-min=5 "$@"
}

# Two halves that take about as long: these files, and all others. The browser's tests last: their
# library keeps an event loop running in the main thread.
in_first_half=("$here"/tests/functional/test_[a-r]*.py)

functional_tests() {
    say "== Python: functional from A to R, browser"
    python_tests "${in_first_half[@]}" tests/browser
}
other_python_tests() {
    say "== Python: unit, attacks, the other functional ones"
    python_tests tests/unit tests/attacks tests/functional "${in_first_half[@]/#/--ignore=}"
}

still_checks() {
    static_checks
    page_tests
}

all_checks() {
    both rust_tests still_checks
    both functional_tests other_python_tests
}

# both A B: two of these at a time, as each keeps little more than one processor busy. What B says
# comes when A has ended. Fails, and tries no more, where either fails.
both() {
    local log failed
    log=$(mktemp)
    (
        set -e
        "$2"
    ) >"$log" 2>&1 </dev/null &
    beside=$!
    trap 'kill -INT "$beside" 2>/dev/null || true' EXIT
    # Not as a condition: there, bash passes over whatever fails inside.
    set +e
    (
        set -e
        "$1"
    )
    failed=$?
    wait "$beside" || failed=$?
    set -e
    trap - EXIT
    cat "$log"
    rm -f "$log"
    return "$failed"
}
