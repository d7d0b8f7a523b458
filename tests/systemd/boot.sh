#!/bin/bash
# Boots systemd as PID 1 on an overlay of `/`, in namespaces of its own: boot.sh FOLDER CGROUP. Nothing outside of FOLDER
# and CGROUP is changed; FOLDER must not lie on an overlay. Writes the guest's PID 1, as seen from here, to FOLDER/pid.
# Called by machine.py.
set -euo pipefail
export folder=$1 cgroup=$2
# Kernel settings are the host's, and no guest's to change.
export keep="--inh-caps=-sys_time,-sys_module --bounding-set=-sys_time,-sys_module"
mkdir -p "$folder"/{upper,work,root} "$cgroup"
echo $BASHPID >"$cgroup/cgroup.procs"
exec setsid unshare --mount --uts --ipc --net --cgroup --pid --fork --kill-child --propagation private bash -euc '
    root=$folder/root
    tmpfs() { mount -t tmpfs -o "nosuid,mode=$1" tmpfs "$2"; }
    mount -t overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" overlay "$root"
    cd "$root"
    mount -t proc proc proc
    mount -t sysfs sysfs sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    tmpfs 755 run; tmpfs 1777 tmp; tmpfs 755 dev
    mkdir dev/pts dev/shm dev/mqueue
    tmpfs 1777 dev/shm
    mount -t mqueue mqueue dev/mqueue
    for name in null zero full random urandom tty; do : >dev/$name; mount --bind /dev/$name dev/$name; done
    mount -t devpts -o newinstance,ptmxmode=666,gid=5 devpts dev/pts
    ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd
    ln -s fd/0 dev/stdin; ln -s fd/1 dev/stdout; ln -s fd/2 dev/stderr
    mount -o remount,ro,bind sys
    mount --bind proc/sys proc/sys
    mount -o remount,ro,bind proc/sys
    cat proc/sys/kernel/random/uuid >etc/boot-id  # the kernel, and with it its own id, is the same at every boot
    if [ ! -e etc/.guest ]; then  # the first boot: none of the services of the host
        : >etc/machine-id
        rm -rf etc/systemd/system/*.wants etc/rc[S0-6].d/* etc/tidegate etc/systemd/system/tidegate*
        for unit in getty.target systemd-networkd.service networking.service systemd-timesyncd.service; do
            ln -sf /dev/null etc/systemd/system/$unit
        done
        touch etc/.guest
    fi
    hostname guest
    mkdir -p .old
    pivot_root . .old
    exec chroot . sh -c "umount -l /.old; mount --make-rshared /; ip link set lo up 2>/dev/null;
        exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=guest setpriv $keep /lib/systemd/systemd"'
