#!/bin/sh
mkdir /job/kept && cd /job/kept || exit 66
dd if=/dev/zero of=large-1 bs=1M count=6 2>/dev/null
dd if=/dev/zero of=large-2 bs=1M count=6 2>/dev/null
dd if=/dev/zero of=sparse bs=1 count=1 seek=7000000 2>/dev/null
echo small >small
(while :; do echo more >>small; sleep 0.1; done) >/dev/null 2>&1 &
exit 0
