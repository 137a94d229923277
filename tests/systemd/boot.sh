#!/bin/sh
# Boots a systemd of its own; box.py starts it three times over, each time further inside.
#
#   outside FOLDER   as root of this machine, in a mount namespace: binds what the box is to see, read-only
#   inside FOLDER    as PID 1 and root of the namespaces: builds the root, changes into it, becomes systemd
#
# The environment has the rest: BOX_BASE (the uid outside that is root inside), BOX_CGROUP (the folder of the
# box's own subtree), BOX_BINDS (lines: path outside, blank, name below /srv/box inside).
set -eu

outside() {
    folder=$1
    mount -t tmpfs -o mode=755 box "$folder"
    mkdir "$folder/root" "$folder/usr" "$folder/binds"
    mount --rbind /usr "$folder/usr"
    mount -o remount,bind,ro "$folder/usr"
    echo "$BOX_BINDS" | while read -r path name; do
        [ -n "$path" ] || continue
        mkdir -p "$folder/binds/$name"
        mount --bind "$path" "$folder/binds/$name"
        mount -o remount,bind,ro "$folder/binds/$name"
    done
    cp /etc/ld.so.cache /etc/nsswitch.conf "$folder/binds/"
    cp -P /etc/localtime "$folder/binds/" 2>/dev/null || true
    cp -L /etc/os-release "$folder/binds/os-release"
    mkdir "$folder/binds/alternatives"
    cp -RP /etc/alternatives/. "$folder/binds/alternatives/" 2>/dev/null || true
    chown "$BOX_BASE:$BOX_BASE" "$folder" "$folder/root"

    # A process whose user namespace is written from here: what is written from inside has one uid only.
    unshare -U sleep 60 &
    holder=$!
    while [ "$(readlink /proc/$holder/ns/user)" = "$(readlink /proc/$$/ns/user)" ]; do sleep 0.01; done
    echo "0 $BOX_BASE 65536" >/proc/$holder/uid_map
    echo "0 $BOX_BASE 65536" >/proc/$holder/gid_map
    exec 3</proc/$holder/ns/user
    kill "$holder"
    wait "$holder" || true
    echo $$ >"$BOX_CGROUP/box/cgroup.procs"
    # The death of who started it would not be told any more to a process that has changed its user.
    exec nsenter --user=/proc/self/fd/3 -S 0 -G 0 -- setpriv --pdeathsig KILL \
        unshare -m -p -u -i -n -C --fork --kill-child /bin/sh "$0" inside "$folder"
}

inside() {
    exec 3<&-
    folder=$1 root=$1/root
    mount --make-rprivate /
    mount -t tmpfs -o mode=755 root "$root"
    cd "$root"
    mkdir usr etc proc sys dev run tmp var opt srv root home mnt old
    mkdir -p etc/systemd/system var/lib var/log/journal var/tmp srv/box
    for name in bin sbin lib lib64; do
        [ -L "/$name" ] && ln -s "usr/$name" "$name"
    done
    mount --rbind "$folder/usr" usr
    for each in "$folder"/binds/*/; do
        name=$(basename "$each")
        [ "$name" = alternatives ] && continue
        mkdir "srv/box/$name"
        mount --rbind "$each" "srv/box/$name"
    done
    filesystems
    settings
    # mount --rbind made the new root a mount of its own; without the old one in view nothing leads out.
    pivot_root . old
    umount -l /old
    rmdir /old
    # Credentials reach a service by mount propagation, which is left to whoever boots a container.
    mount --make-rshared /
    exec env -i container=flowsched-box PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin \
        /lib/systemd/systemd --system --unit=box.target
}

filesystems() {
    mount -t proc -o nosuid,nodev,noexec proc proc
    # Not namespaced: systemd would raise limits of the whole machine, where it can.
    mount --bind proc/sys proc/sys
    mount -o remount,bind,ro,nosuid,nodev,noexec proc/sys
    mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
    mount -t tmpfs -o mode=755,nosuid dev dev
    for name in null zero full random urandom tty; do
        : >"dev/$name"
        mount --bind "/dev/$name" "dev/$name"
    done
    mkdir dev/pts dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
    mount -t tmpfs -o mode=1777,nosuid,nodev shm dev/shm
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    mount -t tmpfs -o mode=755,nosuid,nodev run run
    chmod 1777 tmp var/tmp
    chmod 700 root
    ln -s /run var/run
}

settings() {
    cp "$folder/binds/ld.so.cache" "$folder/binds/os-release" etc/
    cp -P "$folder/binds/localtime" etc/ 2>/dev/null || true
    cp -RP "$folder/binds/alternatives" etc/
    # Without one it would be a first boot, on which every preset is enabled.
    tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
    echo box >etc/hostname
    hostname box
    echo "127.0.0.1 localhost box" >etc/hosts
    cat >etc/nsswitch.conf <<TEXT
passwd: files systemd
group: files systemd
shadow: files
hosts: files
TEXT
    cat >etc/passwd <<TEXT
root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
alice:x:1001:1001:an operator:/home/alice:/bin/sh
mallory:x:1002:1002:somebody else:/home/mallory:/bin/sh
TEXT
    cat >etc/group <<TEXT
root:x:0:
adm:x:4:
tty:x:5:
utmp:x:43:
systemd-journal:x:999:
nogroup:x:65534:
alice:x:1001:
mallory:x:1002:
TEXT
    chmod 600 etc/machine-id && chmod 444 etc/machine-id
    for who in alice:1001 mallory:1002; do
        mkdir -m 750 "home/${who%:*}"
        echo "of ${who%:*} alone" >"home/${who%:*}/letter"
        chown -R "${who#*:}:${who#*:}" "home/${who%:*}"
    done
    # runuser asks PAM; root may be anybody, and nobody else may.
    mkdir etc/pam.d
    printf '%s\n' 'auth required pam_rootok.so' 'account required pam_permit.so' \
        'session required pam_permit.so' 'password required pam_deny.so' >etc/pam.d/other
    cat >etc/systemd/system/box.target <<TEXT
[Unit]
Requires=basic.target
After=basic.target
AllowIsolate=yes
TEXT
    # What a user namespace may not mount, and nobody misses here.
    for name in sys-kernel-debug.mount sys-kernel-tracing.mount; do
        ln -s /dev/null "etc/systemd/system/$name"
    done
    mkdir -p etc/systemd/journald.conf.d
    cat >etc/systemd/journald.conf.d/box.conf <<TEXT
[Journal]
Storage=volatile
RateLimitIntervalSec=0
TEXT
}

"$@"
