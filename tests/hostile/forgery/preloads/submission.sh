#!/bin/sh
head -c 100 /dev/zero >/job/out/libc.so.6
echo /job/out/libc.so.6 >/etc/ld.so.preload 2>/dev/null && exit 66
exit 0
