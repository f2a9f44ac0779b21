#!/bin/sh
mount -t tmpfs none /job/out 2>/dev/null || mount --bind /etc /job/out 2>/dev/null && exit 66
mount --bind "$(dirname "$CANARY")" /job/out 2>/dev/null && exit 66
exit 0
