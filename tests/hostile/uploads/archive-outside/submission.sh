#!/bin/sh
cd /tmp
mkdir a
echo evil >a/x
tar cf t.tar a 2>/dev/null
cd /job/out && tar xf /tmp/t.tar && ln -s / root && tar xf /tmp/t.tar -C root/ 2>/dev/null && exit 66
exit 0
