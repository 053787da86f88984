# shellcheck shell=bash disable=SC2154
# Set-up, sourced by ./run and ./test: system packages, Python environment, the Rust programs
# and the web page, all of it under .build/ except for the packages.
#
# Who does what. An ordinary user sets up and runs everything as itself, and needs root only
# where a system package is missing. Under sudo, root installs packages and all the rest is done
# as the user who called. Where root itself is the user, root sets up, and everything that runs
# afterwards runs as the system user `spacegray`, whose home is /var/lib/spacegray.
#
# The way without anything to do takes a few milliseconds: one `find` against a stamp.

service_user=spacegray
service_home=/var/lib/spacegray
# Copies of checkouts that only root can read. Not in the service user's home: root runs them.
copies=/usr/local/lib/spacegray
build=$here/.build
words=("$@")
minimum_python=3.11
minimum_rust=1.85

# Where mkfs and its kin lie; not on an ordinary user's PATH, nor on root's after a plain `su`.
[[ :${PATH:-}: == *:/usr/sbin:* ]] || export PATH=${PATH:-/usr/bin:/bin}:/usr/sbin:/sbin
[[ -n ${HOME:-} ]] || HOME=$(getent passwd "$EUID" | cut -d: -f6)
export HOME

say() { printf '%s\n' "$*" >&2; }

# fail DOING STOPPED_BY NEXT_STEP: the one line of an error.
fail() {
    say "spacegray: $1: $2; $3"
    exit 1
}

# become: the words that make a command run as the user to whom the state belongs, user_home its
# home. XDG folders and TMPDIR of root's own session would lead the service user astray.
become=() user_home=$HOME user=
if [[ $EUID -ne 0 ]]; then
    caller=self
else
    caller=root
    if [[ ${SUDO_UID:-0} != 0 ]]; then
        IFS=: read -r user _ _ sudo_gid _ user_home _ < <(getent passwd "$SUDO_UID") || user=
    fi
    if [[ -n $user ]]; then
        become=(setpriv --reuid="$user" --regid="$sudo_gid" --init-groups
            env HOME="$user_home" USER="$user" LOGNAME="$user")
        # A checkout in root's own home (sudo -i) is root's.
        "${become[@]}" test -r "$here/run" -a -x "$here/setup" && caller=sudo
    fi
    if [[ $caller == root ]]; then
        user=$service_user user_home=$HOME
        become=(setpriv --reuid="$user" --regid="$user" --init-groups
            env -u XDG_DATA_HOME -u XDG_STATE_HOME -u XDG_CACHE_HOME -u XDG_CONFIG_HOME
            -u XDG_RUNTIME_DIR -u TMPDIR HOME="$service_home" USER="$user" LOGNAME="$user")
    fi
fi

as_user() { exec "${become[@]}" "$@"; }

# set_up run|test: make sure that all of it is there.
set_up() {
    local kind=$1
    if [[ $caller != self ]]; then
        pass_files
    fi
    if ! fresh "$kind"; then
        if [[ $caller == root ]]; then
            make_service_user
            [[ -z $(look "$here/run" ! -readable) ]] || run_copy "$kind"
        fi
        # shellcheck source=setup/steps.sh
        source "$here/setup/steps.sh"
        if [[ $caller == sudo ]] && "${become[@]}" test -w "$(writable_part)"; then
            install_packages "$kind" # and the rest as the user, below
        else
            do_set_up "$kind"
        fi
    fi
    case $caller in
    sudo) as_user bash "$here/$kind" "${words[@]}" ;;
    root) own_home ;;
    esac
}

writable_part() { if [[ -d $build ]]; then echo "$build"; else echo "$here"; fi; }

# What is made from the sources, as words for `find`.
made=(\( -name .git -o -name .build -o -name node_modules -o -name __pycache__
    -o -name '*.egg-info' -o -name '.*_cache' -o -name .hypothesis
    -o -path '*/silicon/target' -o -path '*/console/page' \) -prune)

# look PATH TEST…: the first file that the set-up depends on, or PATH, for which find's TEST
# holds for the user who will run it; or what keeps that user from looking.
look() {
    # From /: find wants to return to where it was, and that may be root's own home.
    (cd / && "${become[@]}" find -H "$1" "$here"/{pyproject.toml,setup,silicon,web,src} \
        "${made[@]}" -o -type f \( "${@:2}" \) -print -quit 2>&1) || echo "$here"
}

# Whether the set-up was done here, and nothing that it depends on has changed since. Changed by
# ctime: that also shows a file put back from elsewhere, and a new Python of the system's.
fresh() {
    local stamp=$build/stamp-$1
    # ./test has set up already, and its tests run as a user who could not.
    [[ -z ${SPACEGRAY_SET_UP:-} ]] || return 0
    [[ -r $stamp && $(<"$stamp") == "$here" ]] || return 1
    [[ -z $(look "$build/venv/bin/python" -newercm "$stamp" -o ! -readable) ]]
}

make_service_user() {
    ! id "$service_user" >/dev/null 2>&1 || return 0
    say "Making the system user $service_user ($service_home), as which the machine runs"
    useradd --system --user-group --create-home --home-dir "$service_home" \
        --shell /usr/sbin/nologin "$service_user" ||
        fail "making the user $service_user" "useradd failed" "make it by hand"
}

# Files that root names and only root can read (a spec, a password) reach the service user
# through a pipe, as /dev/fd/N: never as a copy on the disk.
pass_files() {
    local i option value name fd
    [[ ${words[0]:-} != shell ]] || return 0
    for ((i = 0; i < ${#words[@]}; i++)); do
        case ${words[i]} in
        --) return ;;
        --spec=* | --work-order=* | --*-file=*) option=${words[i]%%=*}= value=${words[i]#*=} ;;
        --spec | --work-order | --*-file) option='' i=$((i + 1)) value=${words[i]:-} ;;
        *) continue ;;
        esac
        if [[ -f $value || -p $value ]] && ! "${become[@]}" test -r "$value"; then
            name=$value
            exec {fd}< <(cat -- "$name")
            chown "$user" "/proc/self/fd/$fd"
            words[i]=$option/dev/fd/$fd
        fi
    done
}

# Root's checkout lies where only root can read it (such as /root): go on from a copy.
run_copy() {
    local kind=$1 copy=${here#/} lock
    [[ $here != "$copies"/* ]] ||
        fail "using $here" "the user $service_user cannot read it" "chmod -R go+rX $copies"
    copy=$copies/${copy//\//-}
    umask_before=$(umask)
    umask 022
    mkdir -p "$copy" || fail "copying $here" "$copies cannot be written to" "make room there"
    exec {lock}>"$copy/.lock"
    flock "$lock"
    if [[ ! -e $copy/.copied ||
        -n $(find "$here" "${made[@]}" -o -newercm "$copy/.copied" -print -quit) ]]; then
        say "Only root can read this checkout: working from a copy in $copy"
        touch "$copy/.lock"
        list "$copy" | comm -z -13 <(list "$here") - | (cd "$copy" && xargs -0 -r rm -f --)
        list "$here" | tar -C "$here" -c --null --no-recursion -T - --owner=0 --group=0 \
            --mode=u+rw,go+r,go-w,a+X | tar -C "$copy" -x ||
            fail "copying $here" "tar failed" "make room in $copies"
        touch -r "$copy/.lock" "$copy/.copied"
    fi
    exec {lock}>&-
    umask "$umask_before"
    exec bash "$copy/$kind" "${words[@]}"
}

# The source files under a folder, sorted, each ended by a zero byte.
list() {
    (cd "$1" && find . "${made[@]}" -o -type f ! -path ./.lock ! -path ./.copied -print0) |
        LC_ALL=C sort -z
}

# SPACEGRAY_HOME, where root gives one, belongs to the service user.
own_home() {
    local home parent
    if [[ -n ${SPACEGRAY_HOME:-} ]]; then
        home=$(realpath -m -- "$SPACEGRAY_HOME")
        export SPACEGRAY_HOME=$home
        "${become[@]}" test -w "$home" -a -x "$home" || give_home "$home"
    fi
    # After the words that name files: what runs as the service user needs a folder it can be in.
    "${become[@]}" test -x . || cd /
}

give_home() {
    local home=$1 parent=${1%/*}
    local doing="using SPACEGRAY_HOME=$home"
    while [[ ! -e ${parent:-/} ]]; do parent=${parent%/*}; done
    "${become[@]}" test -x "${parent:-/}" || fail "$doing" \
        "the user $service_user cannot reach it" "choose a folder outside of root's own home"
    if [[ ! -e $home ]]; then
        (umask 022 && mkdir -p -- "${home%/*}" && mkdir -m 0700 -- "$home") 2>/dev/null ||
            fail "$doing" "it cannot be made" "choose another folder"
    fi
    [[ -d $home && -z $(ls -A -- "$home") ]] || fail "$doing" \
        "it belongs to somebody else and is not an empty folder" \
        "give an empty folder, or: chown -R $service_user $home"
    # -h: the folder itself, never what somebody put in its place meanwhile.
    chown -h "$service_user:$service_user" "$home"
    "${become[@]}" test -w "$home" -a -x "$home" ||
        fail "$doing" "the user $service_user cannot write to it" "choose another folder"
}
