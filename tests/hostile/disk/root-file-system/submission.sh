#!/bin/sh
dd if=/dev/zero of=/large bs=1M count=4 2>/dev/null && exit 66
exit 0
