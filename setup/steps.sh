# shellcheck shell=bash disable=SC2154
# The steps of the set-up, each skipped where there is nothing to do. Sourced by setup.sh.

do_set_up() {
    local kind=$1 lock started
    "${builder[@]}" mkdir -p "$build" 2>/dev/null || fail "setting up" \
        "$here cannot be written to" "use a checkout of your own"
    "${builder[@]}" test -w "$build" || fail "setting up" "$build belongs to another user" \
        "use a checkout of your own, or remove that folder"
    # Two at once take turns; the second then finds little to do.
    exec {lock}>"$build/lock"
    flock "$lock"
    started=$(mktemp -p "$build" .started.XXXXXX)
    install_packages "$kind"
    if [[ $caller == root ]]; then
        id "$service_user" >/dev/null 2>&1 || make_service_user
        give_subids
    fi
    build_python "$kind"
    build_silicon
    build_page
    # The service user cannot write beside the sources: compile them now, not at each start.
    "${builder[@]}" "$build/venv/bin/python" -m compileall -q "$here/src" || true
    # As old as the beginning: what was changed meanwhile is newer and will be looked at.
    touch -r "$started" "$build/stamp-run"
    [[ $kind == run ]] || touch -r "$started" "$build/stamp-$kind"
    rm -f "$started"
    exec {lock}>&-
}

# System packages, by the program or file that shows that each is there.
packages_run=(
    "qemu-system-x86_64=qemu-system-x86"
    "qemu-storage-daemon=qemu-utils"
    "qemu-img=qemu-utils"
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
    "chromium|chromium-browser|google-chrome=chromium"
    "sbverify=sbsigntool"
    "git=git"
)

install_packages() {
    local kind=$1 entry programs package missing=()
    local entries=("${packages_run[@]}")
    [[ $kind == test ]] && entries+=("${packages_test[@]}")
    for entry in "${entries[@]}"; do
        programs=${entry%=*} package=${entry##*=}
        present "$programs" || missing+=("$package")
    done
    choose_python || missing+=(python3 python3-venv)
    "${python:-false}" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    local rust
    if ! choose_rust; then
        rust=$(rust_packages)
        [[ -n $rust ]] || fail "setting up the Rust programs" \
            "there is no Rust $minimum_rust or newer, and no package with one" \
            "install it (https://rustup.rs) so that cargo is on the PATH, and try again"
        # shellcheck disable=SC2206  # a list of words
        missing+=($rust)
    fi
    if [[ ${#missing[@]} -gt 0 ]]; then
        mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
        apt_install "${missing[@]}"
        choose_python || fail "setting up Python" "there is no Python $minimum_python or newer" \
            "install one and try again"
        choose_rust || fail "setting up the Rust programs" \
            "there is still no Rust $minimum_rust or newer" "install one from https://rustup.rs"
    fi
}

# present A|B: whether one of these is a program on the PATH, or an existing file.
present() {
    local alternative
    local PATH=$PATH:/usr/sbin:/sbin
    for alternative in ${1//|/ }; do
        case $alternative in
        /*) [[ -e $alternative ]] && return 0 ;;
        *) command -v "$alternative" >/dev/null && return 0 ;;
        esac
    done
    return 1
}

apt_install() {
    say "Installing system packages: $*"
    local root=()
    if [[ $EUID -ne 0 ]]; then
        if ! command -v sudo >/dev/null || { [[ ! -t 0 ]] && ! sudo -n true 2>/dev/null; }; then
            fail "setting up" "these packages are missing, and only root can install them" \
                "run: sudo apt-get install --no-install-recommends $*"
        fi
        root=(sudo)
    fi
    command -v apt-get >/dev/null || fail "setting up" \
        "this is neither Debian nor Ubuntu (there is no apt-get)" "install the like of: $*"
    local log
    log=$(mktemp)
    local apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y
        -o DPkg::Lock::Timeout=120)
    if ! { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "$@"; } \
        >"$log" 2>&1 </dev/null; then
        local why
        why=$(grep -m1 -E '^E:' "$log" || tail -n1 "$log")
        fail "installing $*" "${why#E: }" "see $log, put it right and try again"
    fi
    rm -f "$log"
}

# Python: the system's own where it will do, as a user's own may lie where others cannot read.
choose_python() {
    local candidate
    for candidate in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null && "$candidate" -c "
import sys
sys.exit(sys.version_info < tuple(map(int, '$minimum_python'.split('.'))))" 2>/dev/null; then
            python=$candidate
            return 0
        fi
    done
    return 1
}

# Rust: cargo on the PATH, in rustup's folder, or under Debian's and Ubuntu's versioned names.
choose_rust() {
    local folder
    for folder in "" "${HOME:-/root}/.cargo/bin/" /usr/lib/rust-web/bin/ \
        $(compgen -G '/usr/lib/rust-1.*/bin/' | sort -Vr); do
        if command -v "${folder}cargo" >/dev/null && rust_is_new "${folder}rustc"; then
            cargo=${folder}cargo
            rustc=${folder}rustc
            return 0
        fi
    done
    return 1
}

rust_is_new() {
    local version
    version=$("$1" --version 2>/dev/null | cut -d' ' -f2) || return 1
    [[ $(printf '%s\n' "$minimum_rust" "$version" | sort -V | head -n1) == "$minimum_rust" ]]
}

# The packages that bring a Rust that is new enough: Debian 13's own, Debian 12's rustc-web,
# Ubuntu's versioned ones.
rust_packages() {
    local candidate version
    for candidate in "rustc cargo" "rustc-web cargo-web" \
        "rustc-1.89 cargo-1.89" "rustc-1.88 cargo-1.88" "rustc-1.85 cargo-1.85"; do
        version=$(apt-cache policy "${candidate%% *}" 2>/dev/null |
            sed -n 's/^ *Candidate: *\([0-9]*:\)\{0,1\}\([0-9.]*\).*/\2/p')
        if [[ -n $version && $(printf '%s\n' "$minimum_rust" "$version" | sort -V | head -n1) == \
            "$minimum_rust" ]]; then
            echo "$candidate"
            return
        fi
    done
}

# A range of subordinate ids lets the service user build systems without root.
give_subids() {
    grep -q "^$service_user:" /etc/subuid 2>/dev/null ||
        usermod --add-subuids 2000000-2065535 --add-subgids 2000000-2065535 "$service_user"
    if getent group kvm >/dev/null && ! id -nG "$service_user" | grep -qw kvm; then
        usermod -aG kvm "$service_user"
    fi
}

build_python() {
    local kind=$1 extras=build
    [[ $kind == test ]] && extras=build,test
    if ! "$build/venv/bin/python" -c '' 2>/dev/null; then
        say "Making the Python environment in .build/venv"
        "${builder[@]}" rm -rf "$build/venv"
        "${builder[@]}" "$python" -m venv "$build/venv" ||
            fail "making the Python environment" "$python -m venv failed" "install python3-venv"
    fi
    [[ $build/stamp-python-$kind -nt $here/pyproject.toml ]] && return
    say "Installing Python packages: see pyproject.toml [$extras]"
    local log=$build/pip.log
    "${builder[@]}" "$build/venv/bin/python" -m pip --disable-pip-version-check --quiet install \
        --editable "${here}[$extras]" >"$log" 2>&1 ||
        fail "installing Python packages" "$(grep -m1 '^ERROR' "$log" || tail -n1 "$log")" \
            "see $log; a package index must be reachable once"
    "${builder[@]}" touch "$build/stamp-python-$kind"
}

build_silicon() {
    say "Building the Rust programs in .build/silicon"
    local log=$build/silicon.log
    "${builder[@]}" env RUSTC="$rustc" CARGO_TARGET_DIR="$build/silicon" "$cargo" build --release \
        --locked --manifest-path "$here/silicon/Cargo.toml" >"$log" 2>&1 ||
        fail "building the Rust programs" "$(grep -m1 '^error' "$log" || tail -n1 "$log")" "see $log"
}

build_page() {
    local stamp=$build/stamp-page page=$here/src/spacegray/console/page
    if [[ -e $stamp && -e $page/index.html && -z $(find "$here/web" -name node_modules -prune \
        -o -type f -newer "$stamp" -print -quit) ]]; then
        return
    fi
    say "Building the console's page"
    local log=$build/page.log
    { npm_web --no-audit --no-fund ci && npm_web run build; } >"$log" 2>&1 ||
        fail "building the console's page" "$(grep -m1 -i 'error' "$log" || tail -n1 "$log")" \
            "see $log; the npm registry must be reachable once"
    "${builder[@]}" touch "$stamp"
}
