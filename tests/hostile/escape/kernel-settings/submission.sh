#!/bin/sh
echo 1 2>/dev/null >/proc/sys/kernel/panic && exit 66
exit 0
