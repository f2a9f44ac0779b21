#!/bin/sh
[ -r /proc/kcore ] && head -c 1 /proc/kcore 2>/dev/null | grep -q . && exit 66
exit 0
