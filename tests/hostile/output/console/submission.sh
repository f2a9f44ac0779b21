#!/bin/sh
# The host's console is device 5:1; a terminal of the container's own is another one.
[ "$(stat -c %t:%T /dev/console 2>/dev/null)" = 5:1 ] && echo hello >/dev/console && exit 66
exit 0
