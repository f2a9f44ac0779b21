#!/bin/sh
for f in /etc/shadow /root/.ssh /var/lib/docker /var/lib/rabbitmq; do [ -e $f ] && exit 66; done
[ -e "$CANARY" ] && exit 66
find / -xdev -name '*canary*' 2>/dev/null | grep -q . && exit 66
exit 0
