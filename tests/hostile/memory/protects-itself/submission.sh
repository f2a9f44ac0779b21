#!/bin/sh
echo -1000 2>/dev/null >/proc/self/oom_score_adj && exit 66
exit 0
