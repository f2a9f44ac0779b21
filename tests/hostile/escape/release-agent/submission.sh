#!/bin/sh
for f in /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/release_agent; do [ -w $f ] && exit 66; done
mkdir /tmp/c
mount -t cgroup -o memory c /tmp/c 2>/dev/null && exit 66
exit 0
