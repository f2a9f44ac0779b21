#!/bin/sh
cd /tmp
mkdir a
echo evil >a/host-canary
tar cf t.tar a 2>/dev/null
cd /job/out && tar xf /tmp/t.tar && ln -s / root && tar xf /tmp/t.tar -C root/ 2>/dev/null && exit 66
rm -rf /job/out/a
ln -s "$(dirname "$CANARY")" /job/out/a
tar xf /tmp/t.tar -C /job/out 2>/dev/null
[ -e "$CANARY" ] && exit 66
exit 0
