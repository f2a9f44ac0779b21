#!/bin/sh
cp /bin/busybox /tmp/su
chmod 4755 /tmp/su
/tmp/su su -c true 2>/dev/null && exit 66
exit 0
