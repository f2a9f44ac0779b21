#!/bin/sh
echo 42 >/job/submission/answer 2>/dev/null && exit 66
rm -rf /job/submission 2>/dev/null
exit 0
