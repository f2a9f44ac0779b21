#!/bin/sh
cd /job/out
mkfifo f
mknod d c 1 5 2>/dev/null
mknod b b 8 0 2>/dev/null
exit 0
