#!/bin/sh
dd if=/dev/zero of=/job/out/s bs=1 count=1 seek=1099511627776 2>/dev/null && exit 66
exit 0
