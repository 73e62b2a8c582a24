#!/bin/sh
# The first process of a virtual machine: prepares it, runs the checks, and switches it off.
export PATH=/usr/bin:/usr/sbin HOME=/tmp TMPDIR=/tmp
export SPEAKER_BIN=/usr/bin/speaker SPEAKER_OBJECT=/speaker.o
[ -d /kubernetes ] && export SPEAKER_KUBERNETES=/kubernetes

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t bpf bpf /sys/fs/bpf

for module in /modules/*; do
    insmod "$module"
done
ip link set lo up
# The lab has interfaces called eth0 of its own.
for driver in virtio_net vmxnet3; do
    number=0
    for interface in /sys/bus/*/drivers/$driver/*/net/*; do
        ip link set "${interface##*/}" name "${driver%[_3]*}$number"
        number=$((number + 1))
    done
done

vm "$@"
# What the machine is told last may not have left the serial port yet.
sleep 0.1
poweroff -f
