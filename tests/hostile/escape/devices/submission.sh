#!/bin/sh
for d in /dev/mem /dev/kmem /dev/port /dev/vda /dev/sda; do [ -e $d ] && exit 66; done
mknod /tmp/m c 1 1 2>/dev/null && head -c 1 /tmp/m 2>/dev/null | grep -q . && exit 66
exit 0
