#!/bin/sh
i=0
while [ $i -lt 20 ]; do cat /bin/busybox /usr/bin/perl /lib/x86_64-linux-gnu/* >/dev/null 2>&1; i=$((i+1)); done
exit 0
