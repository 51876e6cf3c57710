#!/bin/sh
# Becomes the first process of a machine of its own: systemd, over this system's files and a layer in memory ($1) that
# takes every change. Nothing of the system outside is written to but a control group named $2, which holds it all.
# Started by `unshare --mount`; enters the other namespaces itself, once it is in that control group.
set -eu
layer=$1 group=$2
if [ -z "${3-}" ]; then
    mount --make-rprivate /
    mount -t cgroup2 cgroup2 "$layer"
    mkdir "$layer/$group"
    echo $$ >"$layer/$group/cgroup.procs"
    umount "$layer"
    exec unshare --pid --net --uts --ipc --cgroup --fork --kill-child "$0" "$layer" "$group" inside
fi

mount -t tmpfs -o mode=755,size=3g tmpfs "$layer"
mkdir "$layer/upper" "$layer/work" "$layer/root"
mount -t overlay -o "lowerdir=/,upperdir=$layer/upper,workdir=$layer/work" overlay "$layer/root"
cd "$layer/root"
nameservers=$(cat /etc/resolv.conf 2>/dev/null || true)

mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -o remount,bind,ro sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd

# Of what the system outside would start, only the journal, the bus and temporary files.
rm -f etc/resolv.conf etc/systemd/system/*.wants/* etc/systemd/system/*.requires/*
echo "$nameservers" >etc/resolv.conf
for target in sysinit local-fs sockets timers multi-user basic graphical network-online; do
    rm -f "lib/systemd/system/$target.target.wants"/*
done
: >etc/fstab
rm -f usr/sbin/policy-rc.d
cat >etc/systemd/system/machine.target <<'UNIT'
[Unit]
DefaultDependencies=no
Requires=systemd-journald.socket dbus.socket systemd-journald.service
After=systemd-journald.socket dbus.socket systemd-journald.service
AllowIsolate=yes
UNIT
ip link set lo up

mkdir -p mnt/outside
pivot_root . mnt/outside
umount -l /mnt/outside
mount --make-rshared /  # as systemd finds it on a machine: credentials are mounted from a namespace of their own
exec setpriv --bounding-set=-sys_boot,-sys_module,-sys_rawio,-sys_time,-syslog,-mknod \
    env -i container=docv2-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=machine.target --log-target=console --log-level=warning --show-status=no
