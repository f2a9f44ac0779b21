#!/bin/sh
head -c 100000000 /dev/zero | gzip >/tmp/bomb.gz
gunzip -c /tmp/bomb.gz >/job/out/bomb
exit $?
