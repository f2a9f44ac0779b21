#!/bin/sh
mkdir /job/kept && cd /job/kept || exit 66
echo good >good
ln -s "$CANARY" canary
ln -s /proc/self/environ environ
ln -s / way
echo other >/job/other
ln /job/other hard
mkfifo pipe
mknod device c 1 5 2>/dev/null
exit 0
