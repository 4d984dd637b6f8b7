#!/bin/sh
# Makes the image's whole file system:
#
#     deploy/rootfs.sh DIR WEIR PLUGIN.wasm...
#
# weir and the libraries that it is linked with, its plugins, the certificates that this system trusts, and directories
# to mount things on. There is no shell, no package manager, and nothing that changes.
set -eu
user=65532
root=$1
weir=$2
shift 2

install -D -m 755 "$weir" "$root/usr/bin/weir"
strip --strip-debug "$root/usr/bin/weir"
ldd "$weir" | awk '$2 == "=>" { print $3 } $1 ~ /^\// { print $1 }' | while read -r library; do
    install -D -m 755 "$library" "$root$library"
done

install -d -m 755 "$root/usr/lib/weir/plugins"
install -m 644 "$@" "$root/usr/lib/weir/plugins"

install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
echo "hosts: files dns" >"$root/etc/nsswitch.conf"

# Where configurations, more plugins, logs and the agent's own files are mounted.
install -d -m 755 "$root/etc/weir/config" "$root/etc/weir/plugins" "$root/var/log"
install -d -m 750 "$root/var/lib/weir"
if [ "$(id -u)" = 0 ]; then
    # A volume that is made by a container engine is its user's, as this is.
    chown "$user:$user" "$root/var/lib/weir"
fi
