#!/bin/sh
# The first process of a virtual machine: prepares it, runs the checks, and switches it off.
export PATH=/usr/bin:/usr/sbin HOME=/tmp TMPDIR=/tmp
export SPEAKER_BIN=/usr/bin/speaker SPEAKER_OBJECT=/speaker.o

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
ip link set eth0 name card0
ip link set eth1 name card1

vm
# What the machine is told last may not have left the serial port yet.
sleep 0.1
poweroff -f
