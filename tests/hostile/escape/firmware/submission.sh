#!/bin/sh
find /sys/firmware -type f 2>/dev/null | grep -q . && exit 66
exit 0
