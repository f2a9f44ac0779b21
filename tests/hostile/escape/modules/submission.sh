#!/bin/sh
insmod /tmp/x.ko 2>/dev/null || modprobe loop 2>/dev/null && exit 66
exit 0
