#!/bin/sh
cd /job/out
mknod x c 1 5 2>/dev/null && exit 66
mkfifo f
tar cf t.tar f
rm f
tar xf t.tar
exit 0
