#!/bin/sh
{ head -c 18 /bin/busybox; printf '\363\0'; tail -c +21 /bin/busybox; } >/job/a.out; chmod 755 /job/a.out
